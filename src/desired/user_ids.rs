//! User ids of pods: named by the manifests, or left to a cluster that gives each namespace ids of its own, as OpenShift does.

use kube::core::DynamicObject;
use serde_json::Value;

use crate::{cli::Extra, config::Config};

/// What names ids in the security context of a pod or of a container.
const IDS: [&str; 4] = ["runAsUser", "runAsGroup", "fsGroup", "supplementalGroups"];

/// Whether ids are left to the cluster because that was asked for.
pub(super) fn are_asked_to_be_left_out(config: &Config) -> bool {
    config.with.contains(&Extra::ArbitraryUid)
}

/// Takes the ids out of the pods of workloads; that none may be root's stays. The database's are the operator's, which finds
/// out by itself where the cluster gives them.
pub(super) fn leave_out(objects: &mut [DynamicObject]) {
    for pod in objects.iter_mut().filter_map(|object| object.data.pointer_mut("/spec/template/spec")) {
        forget(pod.get_mut("securityContext"));
        for list in ["containers", "initContainers"] {
            for container in pod.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
                forget(container.get_mut("securityContext"));
            }
        }
    }
}

fn forget(context: Option<&mut Value>) {
    if let Some(context) = context.and_then(Value::as_object_mut) {
        context.retain(|name, _| !IDS.contains(&name.as_str()));
    }
}

#[cfg(test)]
mod tests {
    use crate::{assets::Part, cli::Extra, context::Context, desired::embedded, ui::Reporter};

    #[tokio::test]
    async fn no_pod_of_the_stack_names_an_id_where_the_cluster_gives_them() {
        let mut cx = Context::for_tests(Reporter::discard());
        // What is upstream's is fetched: a test on the API server has it.
        let parts = [Part::Base, Part::Web, Part::FailoverHelper, Part::Autoscaling, Part::Monitoring];
        for (with, named) in [(vec![], true), (vec![Extra::ArbitraryUid], false)] {
            cx.config.with = with;
            let mut text = String::new();
            for part in parts {
                text += &serde_json::to_string(&embedded(&cx, part).await.unwrap()).unwrap();
            }
            assert!(text.contains("\"runAsNonRoot\":true"));
            for id in ["runAsUser", "runAsGroup", "fsGroup\""] {
                assert_eq!(text.contains(id), named, "{id}");
            }
        }
    }
}
