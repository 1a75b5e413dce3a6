//! [io] The cluster: a client with the rights of the person, and its errors as people can use them.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::api::events::v1::Event;
use kube::api::{ListParams, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::error_boundary::DeserializeGuard;
use kube::{Api, Client, Config, ResourceExt};
use rheos_api::StreamJobSpec;
use rheos_api::kube::{Savepoint, StreamJob};
use rheos_operator::build;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::FIELD_MANAGER;
use crate::args::General;
use crate::exit::{self, Failure, Outcome};

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Objects of one page of a list.
const PAGE: u32 = 500;
/// Pages that are read at most.
const PAGES: usize = 40;

/// A namespace of a cluster.
#[derive(Clone)]
pub struct Cluster {
    /// The client.
    pub client: Client,
    /// The namespace.
    pub namespace: String,
}

impl Cluster {
    /// The cluster that the command line and the kubeconfig name. Nothing is sent.
    ///
    /// # Errors
    /// There is no kubeconfig, or it cannot be used.
    pub async fn connect(general: &General) -> Outcome<Self> {
        let no_cluster = |error: String| {
            Failure::new(exit::UNREACHABLE, format!("no cluster: {error}")).hint("name a kubeconfig by --kubeconfig or KUBECONFIG")
        };
        let options = KubeConfigOptions { context: general.context.clone(), ..KubeConfigOptions::default() };
        let kubeconfig = match &general.kubeconfig {
            Some(file) => Some(Kubeconfig::read_from(file).map_err(|error| no_cluster(error.to_string()))?),
            None => None,
        };
        let config = match kubeconfig {
            Some(kubeconfig) => Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|error| no_cluster(error.to_string())),
            None if general.context.is_some() => Config::from_kubeconfig(&options).await.map_err(|error| no_cluster(error.to_string())),
            None => Config::infer().await.map_err(|error| no_cluster(error.to_string())),
        };
        let mut config = config?;
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        // Logs and watches are silent for long; ordinary requests have their own limit.
        config.read_timeout = None;
        let namespace = general.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config).map_err(|error| no_cluster(error.to_string()))?;
        Ok(Self { client, namespace })
    }

    /// The same cluster, another namespace.
    #[must_use]
    pub fn at(&self, namespace: &str) -> Self {
        Self { client: self.client.clone(), namespace: namespace.to_owned() }
    }

    /// Objects of the namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// A job.
    ///
    /// # Errors
    /// There is none of this name (the message names the nearest), or it cannot be read.
    pub async fn job(&self, name: &str) -> Outcome<StreamJob> {
        match self.find_job(name).await? {
            Some(job) => Ok(job),
            None => Err(self.no_such_job(name).await),
        }
    }

    /// A job, if it is there.
    ///
    /// # Errors
    /// The cluster does not answer, or refuses.
    pub async fn find_job(&self, name: &str) -> Outcome<Option<StreamJob>> {
        let api = self.api::<DeserializeGuard<StreamJob>>();
        let found = ask(&format!("reading StreamJob {}/{name}", self.namespace), api.get_opt(name)).await?;
        found.map(|guard| guard.0.map_err(|error| unreadable(name, &error.error))).transpose()
    }

    async fn no_such_job(&self, name: &str) -> Failure {
        let failure = Failure::new(exit::NOT_FOUND, format!("there is no StreamJob {name} in namespace {}", self.namespace));
        let Ok(jobs) = self.list::<StreamJob>("StreamJobs", &self.api(), ListParams::default()).await else { return failure };
        let names: Vec<String> = jobs.iter().map(ResourceExt::name_any).collect();
        match rheos_api::suggest::nearest(name, names.iter().map(String::as_str)) {
            Some(nearest) => failure.hint(format!("did you mean {nearest}?")),
            None => failure.hint("kubectl streamjob list -A shows all"),
        }
    }

    /// Objects, page by page. Those that this program cannot read are left out with a word on standard error.
    ///
    /// # Errors
    /// The cluster does not answer, or refuses.
    pub async fn list<K>(&self, what: &str, api: &Api<K>, params: ListParams) -> Outcome<Vec<K>>
    where
        K: DeserializeOwned + Clone + std::fmt::Debug,
    {
        let mut params = params.limit(PAGE);
        let mut found = Vec::new();
        for _ in 0..PAGES {
            let page = ask(&format!("listing {what}"), api.list(&params)).await?;
            found.extend(page.items);
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => break,
            }
        }
        Ok(found)
    }

    /// All jobs of the namespace, or of all namespaces; and what could not be read.
    ///
    /// # Errors
    /// As [`Cluster::list`].
    pub async fn jobs(&self, everywhere: bool, selector: Option<&str>) -> Outcome<(Vec<StreamJob>, Vec<String>)> {
        let api: Api<DeserializeGuard<StreamJob>> = if everywhere { Api::all(self.client.clone()) } else { self.api() };
        let params = selector.map_or_else(ListParams::default, |selector| ListParams::default().labels(selector));
        let (mut jobs, mut problems) = (Vec::new(), Vec::new());
        for guard in self.list("StreamJobs", &api, params).await? {
            match guard.0 {
                Ok(job) => jobs.push(job),
                Err(error) => problems.push(unreadable(&error.metadata.name.clone().unwrap_or_default(), &error.error).to_string()),
            }
        }
        jobs.sort_by_key(|job| (job.namespace(), job.name_any()));
        Ok((jobs, problems))
    }

    /// The worker pods of a job, by index.
    ///
    /// # Errors
    /// As [`Cluster::list`].
    pub async fn pods(&self, job: &str) -> Outcome<Vec<Pod>> {
        let params = ListParams::default().labels(&build::selector(job));
        let mut pods = self.list("the job's pods", &self.api::<Pod>(), params).await?;
        pods.sort_by_key(|pod| (crate::io::live::index(pod).unwrap_or(u32::MAX), pod.name_any()));
        Ok(pods)
    }

    /// The savepoints of a job.
    ///
    /// # Errors
    /// As [`Cluster::list`].
    pub async fn savepoints(&self, job: &str) -> Outcome<Vec<Savepoint>> {
        let all = self.list("Savepoints", &self.api::<DeserializeGuard<Savepoint>>(), ListParams::default()).await?;
        Ok(all.into_iter().filter_map(|guard| guard.0.ok()).filter(|savepoint| savepoint.spec.job == job).collect())
    }

    /// All events of the namespace.
    ///
    /// # Errors
    /// As [`Cluster::list`].
    pub async fn events(&self) -> Outcome<Vec<Event>> {
        self.list("events", &self.api::<Event>(), ListParams::default()).await
    }

    /// The SQL of a spec, wherever it is.
    ///
    /// # Errors
    /// The ConfigMap or its key is not there, or cannot be read.
    pub async fn sql(&self, spec: &StreamJobSpec) -> Outcome<String> {
        if let Some(sql) = &spec.sql {
            return Ok(sql.clone());
        }
        let Some(from) = &spec.sql_from else { return Ok(String::new()) };
        let from = &from.config_map_key_ref;
        let what = format!("reading ConfigMap {}/{} (spec.sqlFrom)", self.namespace, from.name);
        let map = ask(&what, self.api::<ConfigMap>().get(&from.name)).await?;
        let text = map.data.and_then(|mut data| data.remove(&from.key));
        text.ok_or_else(|| Failure::new(exit::NOT_FOUND, format!("spec.sqlFrom: ConfigMap {} has no key {:?}", from.name, from.key)))
    }

    /// Merges a patch into a job; what comes back is the job after it.
    ///
    /// # Errors
    /// The cluster does not answer, or refuses.
    pub async fn patch_job(&self, name: &str, patch: &Value) -> Outcome<StreamJob> {
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        ask(&format!("changing StreamJob {}/{name}", self.namespace), self.api::<StreamJob>().patch(name, &params, &Patch::Merge(patch)))
            .await
    }
}

fn unreadable(name: &str, why: &str) -> Failure {
    Failure::failed(format!("StreamJob {name} cannot be read: {why}")).hint("a newer kubectl-streamjob may know its fields")
}

/// One request, with its deadline.
///
/// # Errors
/// The cluster does not answer, or refuses; `what` says what was tried.
pub async fn ask<T>(what: &str, request: impl Future<Output = Result<T, kube::Error>>) -> Outcome<T> {
    match tokio::time::timeout(REQUEST_TIMEOUT, request).await {
        Ok(answer) => answer.map_err(|error| refusal(what, &error)),
        Err(_) => {
            Err(Failure::new(exit::UNREACHABLE, format!("{what}: the cluster did not answer within {} s", REQUEST_TIMEOUT.as_secs())))
        }
    }
}

/// A refusal as a person can use it.
pub fn refusal(what: &str, error: &kube::Error) -> Failure {
    let kube::Error::Api(status) = error else {
        let mut text = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !text.contains(&cause_text) {
                text = format!("{text}: {cause_text}");
            }
            source = cause.source();
        }
        return Failure::new(exit::UNREACHABLE, format!("{what}: {text}"));
    };
    let message = format!("{what}: {}", status.message.trim());
    match status.code {
        401 => Failure::new(exit::FORBIDDEN, message).hint("log in to the cluster anew: it does not know you"),
        403 => Failure::new(exit::FORBIDDEN, message).hint("ask for the right that is named; the README lists what each command needs"),
        404 if status.message.contains("could not find the requested resource") || status.message.contains("page not found") => {
            Failure::new(exit::NOT_FOUND, format!("{what}: this cluster has no StreamJobs")).hint("install Rheos with its chart first")
        }
        404 => Failure::new(exit::NOT_FOUND, message),
        400 | 422 => Failure::new(exit::INVALID, message),
        _ => Failure::failed(message),
    }
}
