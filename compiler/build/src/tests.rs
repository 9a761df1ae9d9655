use super::*;

const TEXT: &str = r#"graph "t" (%x: s8[1,4,6,6] q(0.5,-3)) -> (%y) {
  meta "precision" = "int8"
  const @table: s8[256] = random 4
  %y = qmap %x, @table : s8[1,4,6,6] q(0.5,-3) from "net/act"
}
"#;

/// A folder of its own, empty.
fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("flowlet-build-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn model(folder: &Path) -> Model {
    let path = folder.join("model.flq");
    std::fs::write(&path, flq::write(&parse(TEXT, &[]).unwrap())).unwrap();
    Model::from_flq(path).target("host")
}

#[test]
fn committed_code_is_held_current() {
    let folder = folder("current");
    let model = model(&folder);
    let module = folder.join("src/model");
    let missing = model.check_against(&module).unwrap_err().to_string();
    assert!(missing.contains("mod.rs and ") && missing.contains("are not what"), "{missing}");
    let paths = model.write_to(&module).unwrap();
    model.check_against(&module).unwrap();
    let written = std::fs::metadata(&paths[0]).unwrap().modified().unwrap();
    model.write_to(&module).unwrap();
    assert_eq!(std::fs::metadata(&paths[0]).unwrap().modified().unwrap(), written, "left alone");
    let mut weights = std::fs::read(&paths[1]).unwrap();
    weights[7] ^= 1;
    std::fs::write(&paths[1], weights).unwrap();
    let stale = model.check_against(&module).unwrap_err().to_string();
    assert!(stale.starts_with(&format!("{} is not what", paths[1].display())), "{stale}");
    assert!(stale.contains("flowlet build ") && stale.contains("--target host -o "), "{stale}");
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn errors_are_sentences_that_name_the_file() {
    let folder = folder("errors");
    let model = model(&folder);
    let path = folder.join("model.flq").display().to_string();
    let message = |model: Model| format!("{:?}", model.lower().unwrap_err());
    assert!(message(Model::from_flq("nowhere.flq").target("host")).starts_with("cannot read nowhere.flq: "));
    assert!(message(Model::from_flq(&path)).starts_with("name a target with .target(\"...\"); known are host, "));
    assert!(message(model.clone().target("toaster")).contains("there is no target 'toaster'; known are"));
    let small = message(model.clone().ram_bytes(100));
    assert!(small.starts_with(&format!("{path}: the model does not fit host: the arena needs 144 bytes")), "{small}");
    std::fs::write(folder.join("model.flq"), "onnx").unwrap();
    assert!(message(model).starts_with(&format!("{path}: this is not a .flq file")));
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_section_is_the_targets_or_the_callers() {
    let folder = folder("section");
    let model = model(&folder).target("qemu-mps2-an386");
    let source = |model: &Model| model.generate("w.bin").unwrap().source;
    assert!(source(&model).contains("#[unsafe(link_section = \".rodata.flowlet\")]"));
    assert!(source(&model.clone().weights_section(Some(".ospi"))).contains("link_section = \".ospi\""));
    assert!(!source(&model.weights_section(None)).contains("unsafe"));
    std::fs::remove_dir_all(folder).unwrap();
}
