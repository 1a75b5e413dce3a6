//! [pure] Paths of the Kubernetes API, and the kinds that the model knows.

/// A kind of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Kind {
    /// Plural, lower case.
    pub(crate) plural: &'static str,
    /// API group; empty for the core one.
    pub(crate) group: &'static str,
    /// API version within the group.
    pub(crate) version: &'static str,
    /// Name.
    pub(crate) kind: &'static str,
    /// Whether `status` is a subresource.
    pub(crate) status: bool,
    /// Whether `generation` counts changes of `spec`.
    pub(crate) generation: bool,
}

const fn kind(plural: &'static str, group: &'static str, version: &'static str, kind: &'static str) -> Kind {
    Kind { plural, group, version, kind, status: false, generation: false }
}

const KINDS: [Kind; 10] = [
    Kind { status: true, generation: true, ..kind("pods", "", "v1", "Pod") },
    kind("configmaps", "", "v1", "ConfigMap"),
    kind("secrets", "", "v1", "Secret"),
    Kind { status: true, ..kind("services", "", "v1", "Service") },
    Kind { status: true, generation: true, ..kind("poddisruptionbudgets", "policy", "v1", "PodDisruptionBudget") },
    kind("leases", "coordination.k8s.io", "v1", "Lease"),
    kind("events", "events.k8s.io", "v1", "Event"),
    Kind { status: true, generation: true, ..kind("streamjobs", "rheos.dev", "v1alpha1", "StreamJob") },
    Kind { status: true, generation: true, ..kind("savepoints", "rheos.dev", "v1alpha1", "Savepoint") },
    Kind { status: true, generation: true, ..kind("networkpolicies", "networking.k8s.io", "v1", "NetworkPolicy") },
];

impl Kind {
    /// By plural name.
    pub(crate) fn of(plural: &str) -> Option<Self> {
        KINDS.into_iter().find(|kind| kind.plural == plural)
    }

    /// `group/version`.
    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }
}

/// What a path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) kind: Kind,
    pub(crate) namespace: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) subresource: Option<String>,
}

/// Reads a path such as `/apis/rheos.dev/v1alpha1/namespaces/a/streamjobs/b/status`.
pub(crate) fn parse(path: &str) -> Option<Target> {
    let mut parts = path.trim_matches('/').split('/').map(str::to_owned);
    let (group, version) = match parts.next()?.as_str() {
        "api" => (String::new(), parts.next()?),
        "apis" => (parts.next()?, parts.next()?),
        _ => return None,
    };
    let mut plural = parts.next()?;
    let mut namespace = None;
    if plural == "namespaces" {
        namespace = Some(parts.next()?);
        plural = parts.next()?;
    }
    let kind = Kind::of(&plural).filter(|kind| kind.group == group && kind.version == version)?;
    let (name, subresource) = (parts.next(), parts.next());
    parts.next().is_none().then_some(Target { kind, namespace, name, subresource })
}

/// One `key=value` list of a query.
pub(crate) fn query(text: &str) -> Vec<(String, String)> {
    text.split('&').filter_map(|pair| pair.split_once('=')).map(|(key, value)| (decode(key), decode(value))).collect()
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let hex: String = rest.by_ref().take(2).map(char::from).collect();
                bytes.push(u8::from_str_radix(&hex, 16).unwrap_or(b'?'));
            }
            other => bytes.push(other),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
