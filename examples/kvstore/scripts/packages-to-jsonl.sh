#!/bin/sh
# A distribution's package index as JSON lines for `kvstore import --json`:
#
#   apt-cache dumpavail | packages-to-jsonl.sh > packages.jsonl
#
# Stanzas are separated by blank lines. The key is "Package Version", the value the whole stanza without its last line end. A
# package that is there twice in the same version is two lines with one key: whoever imports them keeps the last. Figures go
# to standard error: stanzas, keys, duplicates, and the median, the 99th percentile and the most of the values' bytes.
set -eu
figures=$(mktemp)
trap 'rm -f "$figures"' EXIT
LC_ALL=C awk -v figures="$figures" '
BEGIN {
    RS = ""; FS = "\n"
    for (byte = 1; byte < 32; byte++) control[sprintf("%c", byte)] = sprintf("\\u%04x", byte)
    control["\t"] = "\\t"; control["\n"] = "\\n"; control["\r"] = "\\r"
}
function json(text,    c) {
    gsub(/\\/, "\\\\&", text)
    gsub(/"/, "\\\\&", text)
    for (c in control) if (index(text, c)) gsub(c, "\\" control[c], text)
    return "\"" text "\""
}
{
    package = version = ""
    for (i = 1; i <= NF; i++) {
        if ($i ~ /^Package: /) package = substr($i, 10)
        else if ($i ~ /^Version: /) version = substr($i, 10)
    }
    if (package == "" || version == "") {
        print "stanza " NR ": no Package or no Version" > "/dev/stderr"
        exit 1
    }
    print "{\"key\":" json(package " " version) ",\"value\":" json($0) "}"
    print length($0), package, version > figures
}'
sort -n "$figures" | awk '
    { size[NR] = $1; duplicates += seen[$2, $3]++ > 0 }
    function at(share) { rank = int((NR * share + 99) / 100); return NR ? size[rank < 1 ? 1 : rank] : 0 }
    END {
        printf "stanzas %d, keys %d, duplicates %d, value bytes p50 %d, p99 %d, max %d\n",
            NR, NR - duplicates, duplicates, at(50), at(99), at(100) > "/dev/stderr"
    }'
