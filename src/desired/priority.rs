//! The PriorityClass of the database and of what its failover needs.

use kube::core::DynamicObject;
use serde_json::json;

use crate::{
    assets::{Part, kind},
    config::Stack,
    context::Context,
    error::{Failure, Result, failed},
    kube::{ObjectRef, Right},
    names::PRIORITY_CLASS,
};

/// Gives the pods of rendered `objects` of `part` the stack's class, where a failover needs them; takes our own class out
/// where it is not used.
pub(super) fn apply(part: Part, objects: &mut Vec<DynamicObject>, stack: &Stack) {
    let class = stack.priority_class.as_deref();
    if class != Some(PRIORITY_CLASS) {
        objects.retain(|object| kind(object) != "PriorityClass");
    }
    let Some(class) = class else { return };
    if !matches!(part, Part::Operator | Part::Backup | Part::Database | Part::FailoverHelper) {
        return;
    }
    for object in objects {
        let pods = match kind(object) {
            "Cluster" => "/spec",
            "Deployment" => "/spec/template/spec",
            _ => continue,
        };
        if let Some(pods) = object.data.pointer_mut(pods) {
            pods["priorityClassName"] = json!(class);
        }
    }
}

fn reference(class: &str) -> ObjectRef {
    ObjectRef::cluster("scheduling.k8s.io/v1", "PriorityClass", class)
}

/// Why the stack's class cannot be used; `None`: it can, or none is asked for.
///
/// # Errors
/// The cluster does not answer.
pub async fn lack(cx: &Context) -> Result<Option<Failure>> {
    let Some(class) = cx.config.stack.priority_class.as_deref() else { return Ok(None) };
    let kube = cx.kube().await?;
    let may = |verb| kube.may(Right { verb, group: "scheduling.k8s.io", resource: "priorityclasses", namespace: None });
    // Whoever may change nothing of the whole cluster finds it among what the administrators have applied.
    if class == PRIORITY_CLASS && !kube.is_confined().await? {
        let why =
            format!("the PriorityClass {class} cannot be made: you may not patch priorityclasses.scheduling.k8s.io");
        return Ok((!may("patch").await?).then(|| {
            failed(why)
                .remedy("let an administrator make one: kubectl create priorityclass NAME --value=1000000")
                .remedy("then stackctl up --priority-class NAME; or do without: stackctl up --priority-class none")
        }));
    }
    // Who administers a namespace only may not look: they are believed.
    if !may("get").await? || kube.get(&reference(class)).await?.is_some() {
        return Ok(None);
    }
    Ok(Some(
        failed(format!("there is no PriorityClass {class}, which --priority-class names"))
            .remedy(format!("make it: kubectl create priorityclass {class} --value=1000000"))
            .remedy("or name one that is there: kubectl get priorityclass"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cli::{Global, StackArgs},
        config::{Config, Options},
    };

    fn applied(part: Part, class: Option<&str>) -> Vec<DynamicObject> {
        let arguments = StackArgs { priority_class: class.map(str::to_owned), ..StackArgs::default() };
        let options = Options { stack: Some(&arguments), ..Options::default() };
        let stack = Config::load(&Global::default(), &options).unwrap().stack;
        let mut objects = part.embedded().unwrap();
        apply(part, &mut objects, &stack);
        objects
    }

    /// The classes that the pods of a part are of.
    fn classes(part: Part, class: Option<&str>) -> Vec<String> {
        let of = |object: &DynamicObject| {
            let pods = if kind(object) == "Cluster" { "/spec" } else { "/spec/template/spec" };
            object.data.pointer(pods)?["priorityClassName"].as_str().map(str::to_owned)
        };
        applied(part, class).iter().filter_map(of).collect()
    }

    #[test]
    fn what_a_failover_needs_goes_before_what_it_does_not() {
        for part in [Part::Backup, Part::Database, Part::FailoverHelper] {
            assert_eq!(classes(part, None), [PRIORITY_CLASS], "{part}");
            assert_eq!(classes(part, Some("system-cluster-critical")), ["system-cluster-critical"], "{part}");
            assert!(classes(part, Some("none")).is_empty(), "{part}");
        }
        for part in [Part::Web, Part::Monitoring] {
            assert!(classes(part, None).is_empty(), "{part} waits");
        }
    }

    #[test]
    fn our_own_class_is_made_only_where_it_is_used() {
        let made = |class| {
            let classes = applied(Part::Base, class).into_iter().filter(|one| kind(one) == "PriorityClass");
            classes.filter_map(|class| class.metadata.name).collect::<Vec<_>>()
        };
        assert_eq!(made(None), [PRIORITY_CLASS]);
        assert!(made(Some("none")).is_empty());
        assert!(made(Some("system-cluster-critical")).is_empty());
    }
}
