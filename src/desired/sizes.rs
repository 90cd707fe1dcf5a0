//! Puts the sizes of a stack into the manifests. Where a size says nothing, they stay as they are.

use kube::core::DynamicObject;
use serde_json::{Value, json};

use crate::{
    assets::{Part, kind},
    config::Stack,
    kube::quantity,
    names::WEB,
};

/// The memory that Prometheus asks for, may use, and collects garbage by, with a volume of up to so many GiB; and how long
/// it keeps what it measures.
const PROMETHEUS: [(f64, [&str; 4]); 2] =
    [(20.0, ["512Mi", "1Gi", "900MiB", "15d"]), (f64::INFINITY, ["1Gi", "2Gi", "1800MiB", "30d"])];
/// The size of Prometheus' volume in the manifest, which the rest of it goes with.
const SMALL_PROMETHEUS: &str = "1Gi";
const GIB: f64 = 1024.0 * 1024.0 * 1024.0;

/// Sets the sizes in `objects` of `part`.
pub(super) fn apply(part: Part, objects: &mut [DynamicObject], stack: &Stack) {
    let sizes = &stack.sizes;
    for object in objects {
        match (part, kind(object)) {
            (_, "Cluster") => set_database(&mut object.data["spec"], stack),
            (Part::Web, "Deployment") => {
                let containers =
                    object.data.pointer_mut("/spec/template/spec/containers").and_then(Value::as_array_mut);
                if let Some(cpu) = &sizes.web_cpu {
                    let web = containers.into_iter().flatten().find(|container| container["name"] == WEB);
                    web.into_iter().for_each(|web| web["resources"]["requests"]["cpu"] = json!(cpu));
                }
            }
            (Part::Web, "HorizontalPodAutoscaler") => {
                if let Some((least, most)) = sizes.web_pods {
                    object.data["spec"]["minReplicas"] = json!(least);
                    object.data["spec"]["maxReplicas"] = json!(most);
                }
            }
            (Part::Monitoring, "StatefulSet") => {
                if let Some(storage) = &sizes.prometheus_storage {
                    set_prometheus(object, storage, storage);
                }
            }
            _ => {}
        }
    }
}

fn set_database(spec: &mut Value, stack: &Stack) {
    let sizes = &stack.sizes;
    let resources = &mut spec["resources"];
    if let Some(cpu) = &sizes.database_cpu {
        resources["requests"]["cpu"] = json!(cpu);
    }
    if let Some(cpu) = &sizes.database_cpu_limit {
        resources["limits"]["cpu"] = json!(cpu);
    }
    if let Some((asked, limit)) = &sizes.database_memory {
        resources["requests"]["memory"] = json!(asked);
        resources["limits"]["memory"] = json!(limit);
    }
    for (name, value) in &sizes.parameters {
        spec["postgresql"]["parameters"][*name] = json!(value);
    }
    if let Some(size) = &sizes.wal_storage {
        spec["walStorage"] = json!({"size": size});
        if let Some(class) = &stack.storage_class {
            spec["walStorage"]["storageClass"] = json!(class);
        }
    }
}

/// Sets what goes with the size of Prometheus' volume: its claim's template, which cannot be changed once it is there, and
/// how much is kept on a volume of `storage`, for how long and with how much memory.
pub(super) fn set_prometheus(object: &mut DynamicObject, template: &str, storage: &str) {
    let claims = object.data.pointer_mut("/spec/volumeClaimTemplates").and_then(Value::as_array_mut);
    for claim in claims.into_iter().flatten() {
        claim["spec"]["resources"]["requests"]["storage"] = json!(template);
    }
    let Some(bytes) = quantity::parse(storage).filter(|_| !is_same(storage, SMALL_PROMETHEUS)) else { return };
    let tuned = PROMETHEUS.iter().find(|(up_to, _)| bytes <= up_to * GIB).map(|(_, tuned)| tuned);
    let Some([asked, limit, collected_by, kept]) = tuned else { return };
    // A third of the volume is for its write-ahead log and for merging blocks.
    let kept_size = format!("{:.0}MB", (bytes / GIB * 1024.0 / 3.0 * 2.0).floor());
    let containers = object.data.pointer_mut("/spec/template/spec/containers").and_then(Value::as_array_mut);
    for container in containers.into_iter().flatten() {
        for argument in container["args"].as_array_mut().into_iter().flatten() {
            for (option, value) in [("time", *kept), ("size", kept_size.as_str())] {
                let option = format!("--storage.tsdb.retention.{option}=");
                if argument.as_str().is_some_and(|argument| argument.starts_with(&option)) {
                    *argument = json!(format!("{option}{value}"));
                }
            }
        }
        for variable in container["env"].as_array_mut().into_iter().flatten() {
            if variable["name"] == "GOMEMLIMIT" {
                variable["value"] = json!(collected_by);
            }
        }
        container["resources"]["requests"]["memory"] = json!(asked);
        container["resources"]["limits"]["memory"] = json!(limit);
    }
}

/// Whether two quantities are the same amount.
fn is_same(a: &str, b: &str) -> bool {
    matches!((quantity::parse(a), quantity::parse(b)), (Some(a), Some(b)) if (a - b).abs() < 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cli::{Global, Size, StackArgs},
        config::{Config, Options},
    };

    fn stack(arguments: &StackArgs) -> Stack {
        Config::load(&Global::default(), &Options { stack: Some(arguments), ..Options::default() }).unwrap().stack
    }

    fn of_size(size: Size) -> Stack {
        stack(&StackArgs { size: Some(size), storage_class: Some("fast".into()), ..StackArgs::default() })
    }

    fn sized(part: Part, stack: &Stack) -> Vec<DynamicObject> {
        let mut objects = part.embedded().unwrap();
        apply(part, &mut objects, stack);
        objects
    }

    fn spec(objects: &[DynamicObject], wanted: &str) -> Value {
        objects.iter().find(|object| kind(object) == wanted).unwrap().data["spec"].clone()
    }

    #[test]
    fn small_changes_no_object() {
        for part in Part::ALL.into_iter().filter(|part| !matches!(part, Part::Operator | Part::Restored)) {
            for stack in [of_size(Size::Small), stack(&StackArgs::default())] {
                let as_it_is = serde_json::to_value(part.embedded().unwrap()).unwrap();
                assert_eq!(serde_json::to_value(sized(part, &stack)).unwrap(), as_it_is, "{part}");
            }
        }
    }

    #[test]
    fn a_large_database_has_its_memory_its_settings_and_a_volume_for_its_wal() {
        let cluster = spec(&sized(Part::Database, &of_size(Size::Large)), "Cluster");
        let expected = json!({"requests": {"cpu": "4", "memory": "16Gi"}, "limits": {"memory": "16Gi"}});
        assert_eq!(cluster["resources"], expected, "and no limit of CPU, which would only slow it down");
        assert_eq!(cluster["walStorage"], json!({"size": "20Gi", "storageClass": "fast"}));
        let parameters = &cluster["postgresql"]["parameters"];
        assert_eq!((&parameters["shared_buffers"], &parameters["max_connections"]), (&json!("4096MB"), &json!("500")));
        assert_eq!(parameters["archive_timeout"], "10s", "what has nothing to do with sizes stays");
    }

    #[test]
    fn the_web_app_scales_within_its_bounds() {
        let web = sized(Part::Web, &of_size(Size::Medium));
        let scaler = spec(&web, "HorizontalPodAutoscaler");
        assert_eq!((&scaler["minReplicas"], &scaler["maxReplicas"]), (&json!(3), &json!(20)));
        let pod = &spec(&web, "Deployment")["template"]["spec"];
        assert_eq!(pod["containers"][0]["resources"]["requests"]["cpu"], "100m");
        assert_eq!(pod["initContainers"][0]["resources"]["requests"]["cpu"], "40m");
    }

    #[test]
    fn prometheus_keeps_what_its_volume_has_room_for() {
        let prometheus = spec(&sized(Part::Monitoring, &of_size(Size::Medium)), "StatefulSet");
        assert_eq!(prometheus["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"], "10Gi");
        let container = &prometheus["template"]["spec"]["containers"][0];
        let arguments = container["args"].to_string();
        assert!(arguments.contains("retention.time=15d") && arguments.contains("retention.size=6826MB"), "{arguments}");
        assert_eq!(container["resources"]["limits"]["memory"], "1Gi");
        assert_eq!(container["env"][0]["value"], "900MiB");
        assert!(is_same("1Gi", "1024Mi") && !is_same("1Gi", "2Gi") && !is_same("1Gi", "much"));
    }
}
