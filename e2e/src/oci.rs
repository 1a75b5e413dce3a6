//! [io] Writes image archives: OCI layouts in a tar, as `ctr images import`, `kind load image-archive` and `docker load`
//! take them.
//!
//! An image has one layer: files, the shared libraries that its programs name, and the folders above them. The same
//! content makes the same bytes (no times, sorted paths). See the OCI image specification, image layout and manifest.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use crate::shell::run;

/// User and group of a container unless told: the one that means nobody in images without a shell.
pub const USER: u32 = 65_532;
/// Media type of the manifest, after which the index names it.
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// What an entry of a layer is.
#[derive(Debug, Clone)]
enum Entry {
    Folder { mode: u32, owner: u32 },
    File { from: PathBuf, mode: u32 },
    Text(String),
}

/// An image to be.
#[derive(Debug, Clone)]
pub struct Image {
    /// Name and tag.
    pub name: String,
    entrypoint: Vec<String>,
    entries: BTreeMap<String, Entry>,
}

impl Image {
    /// An image that runs `entrypoint`, with a user and the certificates of this machine's authorities.
    pub fn new(name: &str, entrypoint: &[&str]) -> Self {
        let entrypoint = entrypoint.iter().map(|word| (*word).to_owned()).collect();
        let mut image = Self { name: name.to_owned(), entrypoint, entries: BTreeMap::new() };
        image.text("etc/passwd", &format!("root:x:0:0:root:/:/\nrheos:x:{USER}:{USER}:rheos:/:/\n"));
        image.text("etc/group", &format!("root:x:0:\nrheos:x:{USER}:\n"));
        image.folder("tmp", 0o1777, 0);
        let authorities = Path::new("/etc/ssl/certs/ca-certificates.crt");
        if authorities.exists() {
            image.file("etc/ssl/certs/ca-certificates.crt", authorities, 0o644);
        }
        image
    }

    /// A file with this text.
    pub fn text(&mut self, path: &str, text: &str) {
        self.entries.insert(path.to_owned(), Entry::Text(text.to_owned()));
    }

    /// A folder.
    pub fn folder(&mut self, path: &str, mode: u32, owner: u32) {
        self.entries.insert(path.to_owned(), Entry::Folder { mode, owner });
    }

    /// A file of this machine.
    pub fn file(&mut self, path: &str, from: &Path, mode: u32) {
        self.entries.insert(path.to_owned(), Entry::File { from: from.to_owned(), mode });
    }

    /// A program of this machine, with its loader and libraries at the paths where it looks for them.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn program(&mut self, path: &str, from: &Path) -> Result<(), String> {
        if !from.exists() {
            return Err(format!("{} is not there", from.display()));
        }
        self.file(path, from, 0o755);
        // Of a static program ldd says so, and fails.
        let text = run("ldd", &[&from.display().to_string()]).unwrap_or_default();
        for library in libraries(&text) {
            self.file(library.trim_start_matches('/'), Path::new(library), 0o755);
        }
        Ok(())
    }

    /// The layer: the entries and the folders above them.
    fn layer(&self) -> std::io::Result<Vec<u8>> {
        let mut entries = self.entries.clone();
        let above: BTreeSet<String> = self.entries.keys().flat_map(|path| parents(path)).collect();
        for folder in above {
            entries.entry(folder).or_insert(Entry::Folder { mode: 0o755, owner: 0 });
        }
        let mut tar = Builder::new(Vec::new());
        for (path, entry) in &entries {
            match entry {
                Entry::Folder { mode, owner } => append(&mut tar, &format!("{path}/"), EntryType::Directory, *mode, *owner, &[])?,
                Entry::File { from, mode } => append(&mut tar, path, EntryType::Regular, *mode, 0, &std::fs::read(from)?)?,
                Entry::Text(text) => append(&mut tar, path, EntryType::Regular, 0o644, 0, text.as_bytes())?,
            }
        }
        tar.into_inner()
    }
}

/// Paths that `ldd` names, also the loader's, which stands alone.
fn libraries(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/'))).collect()
}

fn parents(path: &str) -> Vec<String> {
    path.match_indices('/').map(|(at, _)| path[..at].to_owned()).collect()
}

fn append(tar: &mut Builder<Vec<u8>>, path: &str, kind: EntryType, mode: u32, owner: u32, bytes: &[u8]) -> std::io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(owner.into());
    header.set_gid(owner.into());
    header.set_mtime(0);
    header.set_size(bytes.len() as u64);
    tar.append_data(&mut header, path, bytes)
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The architecture of this machine, as images name it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Writes images into one archive.
///
/// # Errors
/// When a file of an image cannot be read, or the archive cannot be written.
pub fn write(archive: &Path, images: &[Image]) -> Result<(), String> {
    let shown = |error: std::io::Error| format!("{}: {error}", archive.display());
    let mut blobs: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut add = |bytes: Vec<u8>, media: &str| -> Value {
        let digest = digest(&bytes);
        let described = json!({"mediaType": media, "digest": format!("sha256:{digest}"), "size": bytes.len()});
        blobs.insert(digest, bytes);
        described
    };
    let (mut index, mut docker) = (Vec::new(), Vec::new());
    for image in images {
        let layer = image.layer().map_err(|error| format!("{}: {error}", image.name))?;
        let config = json!({
            "architecture": architecture(), "os": "linux",
            "config": {"Entrypoint": image.entrypoint, "User": format!("{USER}:{USER}"), "Env": ["PATH=/usr/bin:/bin"], "WorkingDir": "/"},
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", digest(&layer))]},
        });
        let layer = add(layer, "application/vnd.oci.image.layer.v1.tar");
        let config = add(config.to_string().into_bytes(), "application/vnd.oci.image.config.v1+json");
        let blob = |described: &Value| described["digest"].as_str().unwrap_or_default().replace("sha256:", "blobs/sha256/");
        docker.push(json!({"Config": blob(&config), "RepoTags": [image.name], "Layers": [blob(&layer)]}));
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]});
        let mut described = add(manifest.to_string().into_bytes(), MANIFEST);
        described["annotations"] = json!({"io.containerd.image.name": image.name, "org.opencontainers.image.ref.name": image.name});
        described["platform"] = json!({"architecture": architecture(), "os": "linux"});
        index.push(described);
    }
    let mut tar = Builder::new(Vec::new());
    let mut file = |path: &str, bytes: &[u8]| append(&mut tar, path, EntryType::Regular, 0o644, 0, bytes).map_err(shown);
    file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    file("index.json", json!({"schemaVersion": 2, "manifests": index}).to_string().as_bytes())?;
    // What `docker load` reads where it does not know the layout.
    file("manifest.json", Value::from(docker).to_string().as_bytes())?;
    for (digest, bytes) in &blobs {
        file(&format!("blobs/sha256/{digest}"), bytes)?;
    }
    let bytes = tar.into_inner().map_err(shown)?;
    std::fs::File::create(archive).and_then(|mut file| file.write_all(&bytes)).map_err(shown)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn read(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut tar = tar::Archive::new(archive);
        let read = |entry: std::io::Result<tar::Entry<'_, &[u8]>>| {
            let mut entry = entry.unwrap();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            (entry.path().unwrap().display().to_string(), bytes)
        };
        tar.entries().unwrap().map(read).collect()
    }

    #[test]
    fn every_digest_names_a_blob_with_that_digest_and_size() {
        let folder = tempfile::tempdir().unwrap();
        let mut image = Image::new("rheos.dev/test:1", &["/usr/bin/thing"]);
        image.text("usr/bin/thing", "a program");
        write(&folder.path().join("image.tar"), &[image.clone(), image]).unwrap();
        let files = read(&std::fs::read(folder.path().join("image.tar")).unwrap());
        let index: Value = serde_json::from_slice(&files["index.json"]).unwrap();
        let blob = |described: &Value| {
            let name = described["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
            let bytes = &files[&format!("blobs/sha256/{name}")];
            assert_eq!((digest(bytes).as_str(), bytes.len() as u64), (name, described["size"].as_u64().unwrap()));
            bytes
        };
        let manifest: Value = serde_json::from_slice(blob(&index["manifests"][0])).unwrap();
        let config: Value = serde_json::from_slice(blob(&manifest["config"])).unwrap();
        let layer = blob(&manifest["layers"][0]);
        assert_eq!(config["rootfs"]["diff_ids"][0], format!("sha256:{}", digest(layer)));
        let layer = read(layer);
        assert_eq!(layer["usr/bin/thing"], b"a program");
        assert!(layer.contains_key("usr/bin/") && layer.contains_key("tmp/"), "{:?}", layer.keys());
    }

    #[test]
    fn a_program_comes_with_its_loader_and_libraries() {
        let mut image = Image::new("rheos.dev/test:1", &["/usr/bin/me"]);
        image.program("usr/bin/me", &std::env::current_exe().unwrap()).unwrap();
        assert!(image.entries.keys().any(|path| path.contains("libc.so")), "{:?}", image.entries.keys());
        assert!(image.entries.keys().any(|path| path.contains("ld-")), "{:?}", image.entries.keys());
        assert!(image.program("usr/bin/none", Path::new("/no/such/program")).is_err());
    }

    #[test]
    fn the_same_content_makes_the_same_bytes() {
        let image = Image::new("rheos.dev/test:1", &["/x"]);
        assert_eq!(image.layer().unwrap(), image.layer().unwrap());
    }
}
