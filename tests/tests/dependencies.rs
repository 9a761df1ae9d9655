//! Dependencies point one way, and the device side has none: read from `cargo metadata`.
#![allow(clippy::unwrap_used)]

use serde_json::Value;
use std::collections::BTreeMap;
use std::process::Command;

/// Normal dependencies of each workspace package; with `all`, development and build dependencies too.
fn dependencies(all: bool) -> BTreeMap<String, Vec<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    packages
        .iter()
        .map(|p| {
            let names = p["dependencies"].as_array().unwrap().iter();
            let kept = names.filter(|d| all || d["kind"].is_null()).map(|d| d["name"].as_str().unwrap().to_owned());
            (p["name"].as_str().unwrap().to_owned(), kept.collect())
        })
        .collect()
}

#[test]
fn dependencies_point_one_way() {
    let allowed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("flowlet-plan", &[][..]),
        ("flowlet-kernels", &["flowlet-plan"][..]),
        ("flowlet", &["flowlet-plan", "flowlet-kernels"][..]),
        ("flowlet-compiler", &["flowlet-plan", "flowlet-kernels"][..]),
        ("flowlet-onnx", &["flowlet-compiler"][..]),
        ("flowlet-build", &["flowlet-compiler"][..]),
        ("flowlet-float", &["flowlet-kernels", "flowlet-compiler"][..]),
        ("flowlet-score", &["flowlet", "flowlet-compiler", "flowlet-float"][..]),
    ]);
    let found = dependencies(false);
    for (package, allowed) in allowed {
        let own = found.get(package).unwrap_or_else(|| panic!("{package} is not in the workspace"));
        let wrong: Vec<&String> =
            own.iter().filter(|d| d.starts_with("flowlet") && !allowed.contains(&d.as_str())).collect();
        assert!(wrong.is_empty(), "{package} must not depend on {wrong:?}");
    }
}

/// sha2 is optional and off by default: it serves hosts that print digests.
#[test]
fn the_device_side_has_no_dependency() {
    let found = dependencies(false);
    for package in ["flowlet-plan", "flowlet-kernels", "flowlet"] {
        let foreign: Vec<&String> =
            found[package].iter().filter(|d| !d.starts_with("flowlet-") && d.as_str() != "sha2").collect();
        assert!(foreign.is_empty(), "{package} depends on {foreign:?}; state the reason in ARCHITECTURE.md first");
    }
}

#[test]
fn only_the_importer_names_tract() {
    for (package, names) in dependencies(true) {
        let tract = names.iter().any(|n| n.starts_with("tract"));
        assert_eq!(tract, package == "flowlet-onnx", "{package}");
    }
}
