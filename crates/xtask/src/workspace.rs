//! What `cargo metadata` says of this workspace.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The workspace that the command runs in.
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    pub(crate) target: PathBuf,
    pub(crate) packages: Vec<Package>,
}

/// A member of it.
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) dir: PathBuf,
    pub(crate) features: Vec<String>,
    pub(crate) targets: Vec<Target>,
}

/// Something that cargo builds of a package.
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) kinds: Vec<String>,
    pub(crate) source: PathBuf,
}

impl Target {
    pub(crate) fn is(&self, kind: &str) -> bool {
        self.kinds.iter().any(|own| own == kind)
    }
}

/// The cargo that runs us, so that every step uses the same toolchain.
pub(crate) fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

impl Workspace {
    /// Asks cargo.
    pub(crate) fn find() -> Result<Self, String> {
        let output = cargo()
            .args(["metadata", "--format-version", "1", "--no-deps"])
            .output()
            .map_err(|error| format!("cargo is missing: {error}; see https://rustup.rs"))?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        let json =
            serde_json::from_slice(&output.stdout).map_err(|error| format!("cargo metadata: {error}"))?;
        Self::from_json(&json).ok_or_else(|| "cargo metadata: a field is missing".into())
    }

    fn from_json(json: &Value) -> Option<Self> {
        let packages = json["packages"].as_array()?.iter().map(Package::from_json).collect::<Option<_>>()?;
        Some(Self {
            root: path(&json["workspace_root"])?,
            target: path(&json["target_directory"])?,
            packages,
        })
    }

    /// The packages under `crates/`, without this one.
    pub(crate) fn crates(&self) -> impl Iterator<Item = &Package> {
        let crates = self.root.join("crates");
        self.packages
            .iter()
            .filter(move |package| package.dir.starts_with(&crates) && package.name != env!("CARGO_PKG_NAME"))
    }

    /// The targets of one kind whose name begins so, each with its package.
    pub(crate) fn targets<'a>(
        &'a self,
        kind: &'a str,
        prefix: &'a str,
    ) -> impl Iterator<Item = (&'a Package, &'a Target)> {
        self.packages
            .iter()
            .flat_map(|package| package.targets.iter().map(move |target| (package, target)))
            .filter(move |(_, target)| target.is(kind) && target.name.starts_with(prefix))
    }
}

impl Package {
    fn from_json(json: &Value) -> Option<Self> {
        Some(Self {
            name: json["name"].as_str()?.into(),
            dir: Path::new(json["manifest_path"].as_str()?).parent()?.into(),
            features: json["features"].as_object()?.keys().cloned().collect(),
            targets: json["targets"].as_array()?.iter().map(Target::from_json).collect::<Option<_>>()?,
        })
    }
}

impl Target {
    fn from_json(json: &Value) -> Option<Self> {
        let kinds = json["kind"].as_array()?.iter().map(|kind| kind.as_str().map(Into::into));
        Some(Self {
            name: json["name"].as_str()?.into(),
            kinds: kinds.collect::<Option<_>>()?,
            source: path(&json["src_path"])?,
        })
    }
}

fn path(json: &Value) -> Option<PathBuf> {
    json.as_str().map(PathBuf::from)
}
