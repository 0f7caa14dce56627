//! keystorectl's re-encrypt and rewrap: ciphertexts that users have, one by one, by the line, raw, in sealed files.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::Value;

use crate::harness::tool::Ran;
use crate::harness::{Daemon, bytes, shared};

struct Scene {
    daemon: std::sync::Arc<Daemon>,
    folder: tempfile::TempDir,
}

impl Scene {
    async fn new() -> Self {
        Self { daemon: shared().await, folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        self.daemon.keystorectl(arguments)
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.run(&[arguments, &["--json"]].concat()).ok()).unwrap()
    }

    fn key(&self) -> String {
        self.json(&["key", "create"])["key_id"].as_str().unwrap().to_owned()
    }

    /// Encrypts what it says under a key, in base64.
    fn encrypt(&self, key: &str, text: &str, more: &[&str]) -> String {
        fs::write(self.path("plain"), text).unwrap();
        let plain = self.path("plain");
        let encrypted = self.run(&[&["encrypt", key, "--plaintext-file", &plain], more].concat()).ok();
        encrypted.trim().to_owned()
    }

    fn decrypt(&self, ciphertext: &str, more: &[&str]) -> String {
        fs::write(self.path("sealed"), ciphertext).unwrap();
        let sealed = self.path("sealed");
        self.run(&[&["decrypt", "--raw", "--ciphertext-file", &sealed], more].concat()).ok()
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

#[track_caller]
fn refused(ran: &Ran, code: i32, says: &[&str]) {
    assert_eq!(ran.code, Some(code), "{}{}", ran.out, ran.err);
    for text in says {
        assert!(ran.err.contains(text), "'{text}' is not in:\n{}", ran.err);
    }
}

fn counts(told: &Value) -> (u64, u64) {
    (told["rewrapped"].as_u64().unwrap(), told["current"].as_u64().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_ciphertext_goes_to_another_key_and_context() {
    let scene = Scene::new().await;
    let (from, to) = (scene.key(), scene.key());
    let old = ["--context", "old=1"];
    let ciphertext = scene.encrypt(&from, "a plaintext", &old);
    let file = scene.path("ciphertext");
    fs::write(&file, &ciphertext).unwrap();
    let anew = |more: &[&str]| scene.run(&[&["re-encrypt", &to, "--ciphertext-file", &file], more].concat());
    // The context stays, unless another one is given or none is wanted.
    assert_eq!(scene.decrypt(&anew(&old).ok(), &old), "a plaintext");
    let made = anew(&["--context", "old=1", "--new-context", "new=2", "--source-key", &from]).ok();
    assert_eq!(scene.decrypt(&made, &["--context", "new=2", "--key", &to]), "a plaintext");
    assert_eq!(scene.decrypt(&anew(&["--context", "old=1", "--drop-context"]).ok(), &[]), "a plaintext");
    let told = scene.json(&["re-encrypt", &to, "--ciphertext-file", &file, "--context", "old=1"]);
    assert!(
        told["key_id"].as_str().unwrap().ends_with(&to) && told["source_key_id"].as_str().unwrap().ends_with(&from)
    );
    assert_ne!(told["source_key_material_id"], told["destination_key_material_id"]);
    let out = scene.path("out");
    anew(&["--context", "old=1", "--raw", "--out", &out]).ok();
    assert_eq!(fs::read(&out).unwrap()[0], 1);
    refused(&anew(&[]), 1, &["InvalidCiphertextException"]);
    refused(&anew(&["--context", "old=1", "--source-key", &to]), 1, &["IncorrectKeyException"]);
    refused(&anew(&["--drop-context", "--new-context", "a=b"]), 2, &["cannot be used with"]);
    refused(&anew(&["--new-context", "a=b", "--new-context", "a=c"]), 2, &["--new-context a is given twice"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_ciphertexts_comes_to_the_current_versions() {
    let scene = Scene::new().await;
    let (one, other) = (scene.key(), scene.key());
    let old: Vec<_> = (0..3).map(|at| scene.encrypt(&one, &format!("old {at}"), &[])).collect();
    let steady = scene.encrypt(&other, "never rotated", &[]);
    scene.run(&["key", "rotate", &one]).ok();
    let new = scene.encrypt(&one, "new", &[]);
    let file = scene.path("file");
    let content = format!("{}\r\n\n  {}\t\n{new}\n{steady}\n{}", old[0], old[1], old[2]);
    fs::write(&file, &content).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(counts(&scene.json(&["rewrap", &file])), (3, 2));
    let text = fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = text.split('\n').collect();
    assert_eq!((lines.len(), lines[1], lines[3], lines[4]), (6, "", new.as_str(), steady.as_str()));
    assert!(lines[0].ends_with('\r') && lines[2].starts_with("  ") && lines[2].ends_with('\t'), "{lines:?}");
    for (line, at) in [(0, 0), (2, 1), (5, 2)] {
        assert_ne!(lines[line].trim(), old[at]);
        assert_eq!(scene.decrypt(lines[line], &[]), format!("old {at}"));
    }
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
    // A second time there is nothing to do, and the file is left alone.
    let before = fs::metadata(&file).unwrap().modified().unwrap();
    let told = scene.run(&["rewrap", &file]).ok();
    assert!(told.contains("0 encrypted anew, 5 current already; nothing was written"), "{told}");
    assert_eq!(fs::metadata(&file).unwrap().modified().unwrap(), before);
    // Under another key, to another file.
    let out = scene.path("out");
    let arguments = ["rewrap", &file, "--key", &other, "--out", &out];
    assert_eq!(counts(&scene.json(&arguments)), (4, 1));
    assert_eq!(fs::read_to_string(&file).unwrap(), text, "the input is not touched");
    for line in fs::read_to_string(&out).unwrap().lines().filter(|line| !line.trim().is_empty()) {
        scene.decrypt(line, &["--key", &other]);
    }
    refused(&scene.run(&arguments), 5, &["exists already", "--force"]);
    scene.run(&[&arguments[..], &["--force"]].concat()).ok();
    assert!(scene.names().iter().all(|name| !name.ends_with(".part")), "{:?}", scene.names());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_done_whole_is_left_as_it_is() {
    let scene = Scene::new().await;
    let key = scene.key();
    let good = scene.encrypt(&key, "good", &[]);
    let with_context = scene.encrypt(&key, "with a context", &["--context", "a=b"]);
    scene.run(&["key", "rotate", &key]).ok();
    let file = scene.path("file");
    let cases = [
        (format!("{good}\n{with_context}\n"), 1, vec!["InvalidCiphertextException", "line 2", "--context"]),
        (format!("{good}\n\nno base64!\n"), 5, vec!["line 3 is no ciphertext", "base64"]),
        (format!("{good}\nAQID\n"), 5, vec!["line 2 is no ciphertext"]),
        (format!("{good}\n{}\n", "A".repeat(20_000)), 5, vec!["line 2 is no ciphertext"]),
    ];
    for (content, code, says) in cases {
        fs::write(&file, &content).unwrap();
        refused(&scene.run(&["rewrap", &file]), code, &says);
        assert_eq!(fs::read_to_string(&file).unwrap(), content);
    }
    assert_eq!(scene.names(), ["file", "plain"]);
    refused(&scene.run(&["rewrap", &scene.path("missing")]), 5, &["cannot read"]);
    refused(&scene.run(&["rewrap", "/dev/null"]), 5, &["not a regular file"]);
    fs::write(&file, "").unwrap();
    assert_eq!(counts(&scene.json(&["rewrap", &file])), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_lines_are_done_in_many_calls() {
    let scene = Scene::new().await;
    let key = scene.key();
    let line = scene.encrypt(&key, "one of many", &["--context", "a=b"]);
    scene.run(&["key", "rotate", &key]).ok();
    let file = scene.path("file");
    fs::write(&file, format!("{line}\n").repeat(2_500)).unwrap();
    assert_eq!(counts(&scene.json(&["rewrap", &file, "--context", "a=b"])), (2_500, 0));
    let made = fs::read_to_string(&file).unwrap();
    let lines: std::collections::BTreeSet<_> = made.lines().collect();
    assert_eq!((made.lines().count(), lines.len()), (2_500, 2_500), "each has an IV of its own");
    assert_eq!(counts(&scene.json(&["rewrap", &file, "--context", "a=b"])), (0, 2_500));
}

#[tokio::test(flavor = "multi_thread")]
async fn raw_ciphertexts_and_sealed_files_come_to_the_current_version_too() {
    let scene = Scene::new().await;
    let (key, other) = (scene.key(), scene.key());
    let (raw, input, sealed, output) =
        (scene.path("raw"), scene.path("input"), scene.path("big"), scene.path("output"));
    scene.encrypt(&key, "as it is", &["--raw", "--out", &raw]);
    fs::write(&input, bytes(3_000_000, 5)).unwrap();
    scene.run(&["file", "seal", &key, &input, &sealed]).ok();
    for file in [&raw, &sealed] {
        assert_eq!(counts(&scene.json(&["rewrap", file])), (0, 1), "{file}");
    }
    scene.run(&["key", "rotate", &key]).ok();
    let before = [fs::read(&raw).unwrap(), fs::read(&sealed).unwrap()];
    for (file, before) in [&raw, &sealed].into_iter().zip(&before) {
        assert_eq!(counts(&scene.json(&["rewrap", file])), (1, 0), "{file}");
        assert!(fs::read(file).unwrap() != *before, "{file}");
        assert_eq!(counts(&scene.json(&["rewrap", file])), (0, 1), "{file}");
    }
    assert_eq!(scene.run(&["decrypt", "--raw", "--ciphertext-file", &raw]).ok(), "as it is");
    let opens = |file: &str| {
        scene.run(&["file", "open", file, &output, "--force"]).ok();
        assert!(fs::read(&output).unwrap() == bytes(3_000_000, 5), "{file}");
    };
    opens(&sealed);
    // To another key and another file, and what was sealed before still opens.
    let moved = scene.path("moved");
    assert_eq!(counts(&scene.json(&["rewrap", &sealed, "--key", &other, "--out", &moved])), (1, 0));
    opens(&moved);
    opens(&sealed);
    // Neither data key nor file id nor chunks are those of the file that it was made of.
    let (one, two) = (fs::read(&sealed).unwrap(), fs::read(&moved).unwrap());
    assert_eq!(one.len(), two.len());
    assert!(one[12..28] != two[12..28] && one[one.len() - 64..] != two[two.len() - 64..]);
    // What was altered is not sealed again, and nothing is left behind.
    let mut altered = one.clone();
    let last = altered.len() - 1;
    altered[last] ^= 1;
    fs::write(&sealed, &altered).unwrap();
    let names = scene.names();
    refused(&scene.run(&["rewrap", &sealed, "--key", &other]), 5, &["is damaged"]);
    assert!(fs::read(&sealed).unwrap() == altered);
    assert_eq!(scene.names(), names);
    refused(&scene.run(&["rewrap", &sealed, "--context", "a=b"]), 2, &["leave --context out"]);
    refused(&scene.run(&["rewrap", &moved, "--out", &moved, "--force"]), 5, &["the input itself"]);
    assert!(Path::new(&moved).exists());
}
