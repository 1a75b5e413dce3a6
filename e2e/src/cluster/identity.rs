//! [io] Who is who: a certificate authority, the apiserver's and its client certificate, the key of service accounts,
//! and a token with a kubeconfig for each part.

use std::io::Read;

use super::config::{API_SERVICE, Plan, put};
use super::network;
use crate::shell::run;

/// Certificates last so many days; the cluster does not.
const DAYS: &str = "30";
/// Random bytes of a token.
const TOKEN_BYTES: usize = 24;

/// A user: name of the kubeconfig, name and group at the apiserver.
type User = (String, String, &'static str);

/// Writes keys, certificates, tokens and kubeconfigs.
///
/// # Errors
/// When openssl fails or a file cannot be written.
pub(super) fn write(plan: &Plan) -> Result<(), String> {
    let pki = |name: &str| plan.pki(name).display().to_string();
    // Nothing of the machine's own configuration: extensions are those that are named here.
    put(&plan.pki("openssl.cnf"), "[req]\ndistinguished_name = name\n[name]\n")?;
    let request = |name: &str, subject: &str, extensions: &[&str], signed: bool| {
        let (config, key, certificate, ca, ca_key) =
            (pki("openssl.cnf"), pki(&format!("{name}.key")), pki(&format!("{name}.crt")), pki("ca.crt"), pki("ca.key"));
        let mut words = vec!["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", DAYS];
        words.extend(["-config", &config, "-subj", subject, "-keyout", &key, "-out", &certificate]);
        words.extend(extensions.iter().flat_map(|extension| ["-addext", extension]));
        if signed {
            words.extend(["-CA", &ca, "-CAkey", &ca_key]);
        }
        run("openssl", &words).map(drop)
    };
    request("ca", "/CN=rheos-cluster", &["basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,digitalSignature"], false)?;
    let names = format!("subjectAltName=IP:127.0.0.1,IP:{},IP:{API_SERVICE},DNS:kubernetes.default.svc", network::address(0));
    let leaf = "basicConstraints=critical,CA:FALSE";
    request("apiserver", "/CN=kube-apiserver", &[leaf, "extendedKeyUsage=serverAuth", &names], true)?;
    request("kubelet-client", "/O=system:masters/CN=kube-apiserver", &[leaf, "extendedKeyUsage=clientAuth"], true)?;
    run("openssl", &["genrsa", "-out", &pki("accounts.key"), "2048"])?;
    run("openssl", &["rsa", "-in", &pki("accounts.key"), "-pubout", "-out", &pki("accounts.pub")])?;
    users(plan)
}

fn users(plan: &Plan) -> Result<(), String> {
    let part = |name: &str, group| -> User { (name.to_owned(), format!("system:kube-{name}"), group) };
    let mut users: Vec<User> = vec![
        ("admin".into(), "admin".into(), "system:masters"),
        part("controller-manager", ""),
        part("scheduler", ""),
        ("kube-proxy".into(), "system:kube-proxy".into(), ""),
    ];
    users.extend((0..plan.nodes).map(|index| (format!("node{index}"), format!("system:node:node{index}"), "system:nodes")));
    let mut tokens = String::new();
    for (file, user, group) in users {
        let token = token()?;
        tokens.push_str(&format!("{token},{user},{user},\"{group}\"\n"));
        put(&plan.kubeconfig(&file), &kubeconfig(plan, &token))?;
    }
    put(&plan.pki("tokens.csv"), &tokens)
}

fn token() -> Result<String, String> {
    let mut bytes = [0; TOKEN_BYTES];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(|error| format!("/dev/urandom: {error}"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn kubeconfig(plan: &Plan, token: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: rheos\nclusters:\n- name: rheos\n  cluster: {{server: \"https://{}:6443\", \
         certificate-authority: {}}}\nusers:\n- name: rheos\n  user: {{token: {token}}}\ncontexts:\n- name: rheos\n  context: \
         {{cluster: rheos, user: rheos}}\n",
        network::address(0),
        plan.pki("ca.crt").display()
    )
}
