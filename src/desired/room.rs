//! Whether the cluster has room for what of the stack is not there yet.

use kube::core::DynamicObject;
use serde_json::Value;

use super::{backup, embedded};
use crate::{
    assets::{Part, kind},
    cli::Optional,
    context::Context,
    error::{Failure, Result, failed},
    kube::{
        ObjectRef,
        room::{PodsOf, Request, Room},
    },
    names::APP_NAME,
};

/// The parts whose pods ask for more in a larger stack.
const SIZED: [Part; 2] = [Part::Database, Part::Web];

/// The parts without which `up` does not end. (Monitoring is not waited for.)
const WAITED_FOR: [Part; 5] = [Part::Operator, Part::Backup, Part::Database, Part::FailoverHelper, Part::Web];

/// Says that the cluster has no room for what `up` would add to it, or make larger; `None` where it has, or where nodes that
/// have just started do not say yet.
///
/// # Errors
/// It cannot be told: upstream's manifest can be neither found in the bundle nor fetched, or the user may not see what the
/// nodes have and what others ask them for.
pub async fn lack_of_room(cx: &Context) -> Result<Option<Failure>> {
    let mut objects = Vec::new();
    for part in WAITED_FOR {
        if part == Part::FailoverHelper && cx.config.without.contains(&Optional::FailoverHelper) {
            continue;
        }
        let is_new = cx.inventory().await?.entries(part.name()).is_empty();
        if is_new || SIZED.contains(&part) {
            objects.extend(embedded(cx, part).await?);
        } else if part == Part::Backup && backup::wanted(cx).is_some() {
            // For what stands beside each instance.
            objects.extend(part.embedded()?.into_iter().filter(|object| kind(object) == "ObjectStore"));
        }
    }
    let (mut pods, mut replaced) = (Vec::new(), Vec::new());
    for object in &objects {
        let asked = pods_of(object, &objects);
        if asked.is_empty() {
            continue;
        }
        // What another stack has brought is there for this one, too.
        let Some(live) = live(cx, object).await? else {
            pods.extend(asked);
            continue;
        };
        if let Some(larger) = larger(&asked, &pods_of(&live, &objects)) {
            pods.extend(larger);
            replaced.extend(pods_selected(&live));
        }
    }
    if pods.is_empty() {
        return Ok(None);
    }
    let room = Room::read(cx.kube().await?, &replaced).await?;
    Ok(if room.unknown { None } else { refusal(&room, pods) })
}

/// The object as the cluster has it; of a kind that the cluster does not know it has none.
async fn live(cx: &Context, object: &DynamicObject) -> Result<Option<DynamicObject>> {
    let (kube, reference) = (cx.kube().await?, ObjectRef::of(object)?);
    Ok(kube.get(&reference).await.unwrap_or(None))
}

/// The pods of an object that asks for more than those that it has, which they replace; `None` where it does not. There are
/// no fewer than there are: the autoscaler may have made more.
fn larger(asked: &[Request], there: &[Request]) -> Option<Vec<Request>> {
    let (one, count) = (*asked.first()?, asked.len().max(there.len()));
    let grows = asked.len() > there.len() || there.first().is_some_and(|there| !one.fits(*there));
    grows.then(|| vec![one; count])
}

/// How the pods of an object are found.
fn pods_selected(object: &DynamicObject) -> Option<PodsOf> {
    let (namespace, name) = (object.metadata.namespace.clone()?, object.metadata.name.clone()?);
    let label = if kind(object) == "Cluster" { "cnpg.io/cluster" } else { APP_NAME };
    Some(PodsOf { namespace, label, value: name })
}

/// The pods that an object is going to have, by what each asks for.
fn pods_of(object: &DynamicObject, objects: &[DynamicObject]) -> Vec<Request> {
    let spec = &object.data["spec"];
    let number = |value: &Value| value.as_u64().and_then(|number| usize::try_from(number).ok());
    let (pod, count) = match kind(object) {
        "Deployment" | "StatefulSet" => {
            let scaled = objects.iter().find(|other| {
                let target = &other.data["spec"]["scaleTargetRef"];
                kind(other) == "HorizontalPodAutoscaler" && target["name"].as_str() == object.metadata.name.as_deref()
            });
            let least = scaled.and_then(|scaler| number(&scaler.data["spec"]["minReplicas"]));
            let count = number(&spec["replicas"]).or(least).unwrap_or(1);
            (Request::of_pod(&spec["template"]["spec"]), count)
        }
        "Cluster" => {
            // The plugin puts a sidecar beside each instance.
            let store = objects.iter().find(|other| kind(other) == "ObjectStore");
            let sidecar = store.map(|store| &store.data["spec"]["instanceSidecarConfiguration"]["resources"]);
            let instance = Request::of_resources(&spec["resources"]);
            let pod = sidecar.map_or(instance, |resources| instance + Request::of_resources(resources));
            (pod, number(&spec["instances"]).unwrap_or(1))
        }
        _ => return Vec::new(),
    };
    vec![pod; count]
}

fn refusal(room: &Room, pods: Vec<Request>) -> Option<Failure> {
    let (asked, free) = (pods.iter().fold(Request::default(), |sum, pod| sum + *pod), room.total());
    let count = pods.len();
    let left = room.place(pods);
    let largest = left.first()?;
    let nodes = room.nodes.len();
    let on = format!("{nodes} {} that {} pods", one_or(nodes, "node", "nodes"), one_or(nodes, "takes", "take"));
    Some(
        failed(format!(
            "the cluster has no room for the stack: its {count} pods ask for {asked}, {free} are free on {on}; {} of them, \
             the largest with {largest}, would wait for ever",
            left.len()
        ))
        .remedy("make room: more or larger nodes (of minikube: --nodes, --cpus and --memory of a new profile), or fewer other pods")
        .remedy("or ask for less: a smaller --size, --instances 3, --without backup"),
    )
}

const fn one_or<'a>(count: usize, one: &'a str, many: &'a str) -> &'a str {
    if count == 1 { one } else { many }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;
    use serde_json::json;

    use super::*;
    use crate::{
        cli::{Global, Size, StackArgs},
        config::{Config, Options},
        ui::Reporter,
    };

    fn cpus(cpu: f64) -> Request {
        Request { cpu, memory: 0.0 }
    }

    #[tokio::test]
    async fn the_pods_of_the_stack_are_counted_with_what_they_ask_for() {
        let cx = Context::for_tests(Reporter::discard());
        let database = embedded(&cx, Part::Database).await.unwrap();
        let instances =
            |objects: &[DynamicObject]| database.iter().flat_map(|object| pods_of(object, objects)).collect();
        let alone: Vec<Request> = instances(&database);
        assert_eq!(alone.len(), 3);
        assert!((alone[0].cpu - 0.1).abs() < 1e-9, "{alone:?}");
        let beside: Vec<Request> = instances(&Part::Backup.embedded().unwrap());
        assert!((beside[0].cpu - 0.15).abs() < 1e-9, "with the sidecar: {beside:?}");
        let web = embedded(&cx, Part::Web).await.unwrap();
        let pods: Vec<Request> = web.iter().flat_map(|object| pods_of(object, &web)).collect();
        assert_eq!(pods.len(), 2, "as many as the autoscaler starts with");
    }

    #[tokio::test]
    async fn what_a_size_is_said_to_need_is_what_it_asks_for() {
        for (size, cpu, gibibytes) in [(Size::Small, 1.0, 2.0), (Size::Medium, 4.0, 14.0), (Size::Large, 14.0, 50.0)] {
            let arguments = StackArgs { size: Some(size), ..StackArgs::default() };
            let options = Options { stack: Some(&arguments), ..Options::default() };
            let config = Config::load(&Global::default(), &options).unwrap();
            let cx = Context::new(config, Reporter::discard()).unwrap();
            // The operator's manifest, upstream's own, asks for 100m and 100Mi.
            let mut asked = Request { cpu: 0.1, memory: 100.0 * 1024_f64.powi(2) };
            let mut objects = Part::Backup.embedded().unwrap();
            for part in [Part::Database, Part::FailoverHelper, Part::Web, Part::Monitoring] {
                objects.extend(embedded(&cx, part).await.unwrap());
            }
            objects.iter().flat_map(|object| pods_of(object, &objects)).for_each(|pod| asked += pod);
            let told = Request { cpu, memory: gibibytes * 1024_f64.powi(3) };
            assert!(asked.fits(told), "{size:?}: {asked}");
            assert!(asked.cpu > 0.7 * told.cpu && asked.memory > 0.6 * told.memory, "{size:?}: {asked}");
            let help = size.to_possible_value().unwrap().get_help().unwrap().to_string();
            assert!(help.contains(&format!("{cpu:.0} CPU")), "{help}");
            assert!(help.contains(&format!("{gibibytes:.0} GiB of memory")), "{help}");
        }
    }

    #[test]
    fn a_stack_that_grows_is_asked_for_all_that_replaces_its_pods() {
        assert_eq!(larger(&[cpus(0.1); 3], &[cpus(0.1); 3]), None);
        assert_eq!(larger(&[cpus(0.1); 2], &[cpus(0.1); 7]), None, "the autoscaler's");
        assert_eq!(larger(&[cpus(0.1); 3], &[cpus(0.2); 3]), None);
        assert_eq!(larger(&[cpus(1.0); 3], &[cpus(0.1); 3]), Some(vec![cpus(1.0); 3]));
        assert_eq!(larger(&[cpus(0.1); 5], &[cpus(0.1); 3]), Some(vec![cpus(0.1); 5]));
        assert_eq!(larger(&[cpus(0.2); 2], &[cpus(0.1); 7]), Some(vec![cpus(0.2); 7]));
    }

    #[test]
    fn a_cluster_without_room_is_told_with_figures_and_one_with_room_is_not() {
        let room =
            Room { nodes: [("a".to_owned(), Request { cpu: 0.35, memory: 1024_f64.powi(3) })].into(), unknown: false };
        assert!(refusal(&room, vec![cpus(0.1); 3]).is_none());
        let refused = refusal(&room, vec![cpus(0.1); 5]).unwrap();
        let text = refused.to_string();
        assert!(text.contains("its 5 pods ask for 0.50 CPUs and 0.0 GiB, 0.35 CPUs and 1.0 GiB are free on 1 node that takes pods; 2 of them"), "{text}");
        let none = refusal(&Room::default(), vec![cpus(0.1)]).unwrap();
        assert!(none.to_string().contains("on 0 nodes that take pods"), "{none}");
        assert_eq!(
            pods_of(
                &serde_json::from_value(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}))
                    .unwrap(),
                &[]
            ),
            []
        );
    }
}
