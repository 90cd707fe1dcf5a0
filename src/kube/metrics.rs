//! The resource metrics API: what pods use, as the autoscaler is told.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Kube, ObjectRef, quantity};
use crate::{
    error::{Failure, Result, failed},
    names::{FIELD_MANAGER, MANAGED_BY},
};

/// The APIService through which the autoscaler asks for CPU and memory.
const METRICS_API: &str = "v1beta1.metrics.k8s.io";

/// The APIService of that name: whoever serves the metrics API.
pub fn api_service() -> ObjectRef {
    ObjectRef::cluster("apiregistration.k8s.io/v1", "APIService", METRICS_API)
}

impl Kube {
    /// Whether somebody serves the metrics API, as far as whoever may not see its APIService can tell.
    ///
    /// # Errors
    /// The API server does not answer.
    pub async fn serves_metrics(&self) -> Result<bool> {
        self.knows("metrics.k8s.io/v1beta1", "PodMetrics").await
    }
}

/// The CPU that each pod of a selector uses, in thousandths of a processor. Pods that are younger than a scrape
/// or two are missing.
///
/// # Errors
/// Nobody serves the metrics API, it does not answer, or something else answers; the error says who serves it.
pub async fn cpu_of_pods(kube: &Kube, namespace: &str, selector: &str) -> Result<BTreeMap<String, f64>> {
    let path = format!("/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods?labelSelector={selector}");
    let client = kube.client();
    let ask = || async {
        let request = http::Request::get(&path).body(Vec::new()).map_err(kube::Error::HttpError)?;
        // As text: what is no JSON at all is an answer, too.
        client.request_text(request).await
    };
    let why = match kube.attempt("read the metrics API", ask).await {
        Ok(Ok(text)) => match parse(&text) {
            Some(found) => return Ok(found),
            None => format!("its answer is not a list of pods: {}", text.chars().take(80).collect::<String>().trim()),
        },
        Ok(Err(status)) => format!("{} ({})", status.message.trim(), status.code),
        Err(error) => crate::error::one_line(&error),
    };
    Err(blind(kube, &why).await?.into())
}

fn parse(text: &str) -> Option<BTreeMap<String, f64>> {
    let list: Value = serde_json::from_str(text).ok()?;
    if list["kind"] != "PodMetricsList" {
        return None;
    }
    list["items"].as_array()?.iter().map(pod).collect()
}

fn pod(item: &Value) -> Option<(String, f64)> {
    let name = item["metadata"]["name"].as_str()?.to_owned();
    let containers = item["containers"].as_array()?;
    let used: Option<f64> =
        containers.iter().map(|each| Some(quantity::parse(each["usage"]["cpu"].as_str()?)? * 1e3)).sum();
    Some((name, used?))
}

/// Who serves the metrics API, and that it does not do what the autoscaler needs.
async fn blind(kube: &Kube, why: &str) -> Result<Failure> {
    let Some(service) = kube.get(&api_service()).await? else {
        return Ok(failed("nobody serves the metrics API: the autoscaler is blind")
            .remedy("stackctl up installs metrics-server where there is none"));
    };
    let field = |name: &str| service.data.pointer(&format!("/spec/service/{name}")).and_then(Value::as_str);
    let by = match (field("namespace"), field("name")) {
        (Some(namespace), Some(name)) => format!("Service {namespace}/{name}"),
        _ => "the API server itself".into(),
    };
    let labels = service.metadata.labels.unwrap_or_default();
    let ours = labels.get(MANAGED_BY).is_some_and(|manager| manager == FIELD_MANAGER);
    let failure = failed(format!("the metrics API, served by {by}, does not tell what pods use: {why}"));
    Ok(if ours {
        failure.remedy("stackctl logs autoscaling says what is wrong with metrics-server; stackctl up puts it right")
    } else {
        failure.remedy("repair what serves it: kubectl top pods must work").remedy(format!(
            "or have stackctl's metrics-server instead: kubectl delete apiservice {METRICS_API}, then stackctl up"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_metrics_server_answers() {
        let text = r#"{"kind":"PodMetricsList","items":[
            {"metadata":{"name":"a"},"containers":[{"usage":{"cpu":"12500000n","memory":"1Mi"}},{"usage":{"cpu":"3m"}}]},
            {"metadata":{"name":"b"},"containers":[{"usage":{"cpu":"1"}}]}]}"#;
        assert_eq!(parse(text), Some([("a".to_owned(), 15.5), ("b".to_owned(), 1000.0)].into()));
        assert_eq!(parse(r#"{"kind":"PodMetricsList","items":[]}"#), Some(BTreeMap::new()));
    }

    #[test]
    fn what_something_else_answers() {
        for text in ["hello", r#"{"kind":"MetricValueList","items":[]}"#, r#"{"kind":"PodMetricsList"}"#] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
