//! What admission says when it refuses something: which object is behind it, and what can be done.

/// A refusal by what a cluster's owner has laid down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// What refuses, and why, in a sentence's half.
    pub why: String,
    /// What to do.
    pub remedy: String,
    /// Whether waiting may help: what uses a quota up may go.
    pub may_pass: bool,
}

impl Refusal {
    /// Reads what the API server, or a controller that was refused, says; `None`: it was something else.
    pub fn of(message: &str) -> Option<Refusal> {
        let refusal = |why: String, remedy: &str| Some(Refusal { why, remedy: remedy.into(), may_pass: false });
        if let Some(said) = after(message, "exceeded quota: ") {
            let (name, numbers) = said.split_once(", ").unwrap_or((said, ""));
            let numbers = numbers.replace("limited: ", "of ");
            return Some(Refusal {
                why: format!("ResourceQuota {name} is used up: {numbers}"),
                remedy: format!(
                    "raise it (kubectl edit resourcequota {name}), free what uses it, or ask for less (a smaller --size, \
                     fewer --instances, --without backup)"
                ),
                may_pass: true,
            });
        }
        if let Some(said) = after(message, "failed quota: ") {
            let (name, wants) = said.split_once(": ").unwrap_or((said, ""));
            return refusal(
                format!("ResourceQuota {name} wants every container to say what it uses: {wants}"),
                "run stackctl up again: it sets limits where a quota wants them; for a pod of somebody else's, a LimitRange \
                 with defaults does",
            );
        }
        if let Some(said) = after(message, "status unknown for quota: ") {
            return Some(Refusal {
                why: format!("nobody has counted yet what ResourceQuota {said} is about"),
                remedy: "kube-controller-manager counts within seconds: is it running?".into(),
                may_pass: true,
            });
        }
        if let Some(said) = range(message) {
            return refusal(
                format!("a LimitRange of the namespace does not allow it: {said}"),
                "kubectl get limitrange -o yaml shows it: change its min or max, or the sizes of the stack (--size, and the \
                 table [sizes] of the configuration file)",
            );
        }
        if let Some(said) = after(message, "ValidatingAdmissionPolicy ") {
            let (policy, says) = said.split_once(" denied request: ")?;
            return refusal(
                format!("ValidatingAdmissionPolicy {} forbids it: {says}", policy.replace('\'', "")),
                "ask its owner for an exception: a binding that leaves the namespace out (namespaceSelector)",
            );
        }
        let webhook = after(message, "admission webhook ").and_then(|said| said.split_once(" denied the request"));
        // What the operator's own finds invalid is no rule of the cluster's owner.
        if let Some((webhook, says)) = webhook.filter(|(webhook, _)| !webhook.trim_matches('"').ends_with(".cnpg.io")) {
            let says = says.trim_start_matches([':', ' ']);
            return refusal(
                format!("the admission webhook {} forbids it: {says}", webhook.replace('"', "")),
                "what it says is its owner's rule: ask for an exception for the namespace",
            );
        }
        if let Some((class, _)) =
            after(message, "no PriorityClass with name ").and_then(|said| said.split_once(" was found"))
        {
            return Some(Refusal {
                why: format!("the PriorityClass {class}, which it is to be of, is not there"),
                remedy: "stackctl up makes the stack's own; stackctl up --priority-class NAME takes another one (kubectl get \
                         priorityclass), none does without"
                    .into(),
                may_pass: true,
            });
        }
        if let Some(said) = after(message, "violates PodSecurity ") {
            return refusal(
                format!("the namespace's Pod Security level forbids it: {said}"),
                "lower the namespace's label pod-security.kubernetes.io/enforce, or use another namespace",
            );
        }
        None
    }
}

fn after<'a>(message: &'a str, beginning: &str) -> Option<&'a str> {
    message.split_once(beginning).map(|(_, rest)| rest.trim())
}

/// What a LimitRange says, which does not name itself.
fn range(message: &str) -> Option<&str> {
    let bounds = ["minimum ", "maximum ", "cpu max limit to request ratio", "memory max limit to request ratio"];
    let begins = bounds.iter().filter_map(|bound| message.find(bound)).min()?;
    let said = message[begins..].trim_end_matches(']');
    (said.contains(" usage per ") || said.contains(" ratio per ")).then_some(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_refuses_is_named_with_its_numbers_and_what_to_do() {
        for (message, why, remedy) in [
            (
                "pods \"user-app-7\" is forbidden: exceeded quota: team, requested: limits.cpu=400m, used: limits.cpu=3800m, limited: limits.cpu=4",
                "ResourceQuota team is used up: requested: limits.cpu=400m, used: limits.cpu=3800m, of limits.cpu=4",
                "kubectl edit resourcequota team",
            ),
            (
                "pods \"p\" is forbidden: failed quota: team: must specify limits.cpu for: prober; limits.memory for: prober",
                "ResourceQuota team wants every container to say what it uses: must specify limits.cpu for: prober; limits.memory for: prober",
                "stackctl up again",
            ),
            (
                "pods \"p\" is forbidden: [minimum cpu usage per Container is 100m, but request is 40m, maximum memory usage per Container is 256Mi, but limit is 512Mi]",
                "a LimitRange of the namespace does not allow it: minimum cpu usage per Container is 100m, but request is 40m, maximum memory usage per Container is 256Mi, but limit is 512Mi",
                "kubectl get limitrange",
            ),
            (
                "persistentvolumeclaims \"c\" is forbidden: minimum storage usage per PersistentVolumeClaim is 2Gi, but request is 1Gi",
                "a LimitRange of the namespace does not allow it: minimum storage usage per PersistentVolumeClaim is 2Gi, but request is 1Gi",
                "sizes of the stack",
            ),
            (
                "pods \"p\" is forbidden: cpu max limit to request ratio per Container is 2, but provided ratio is 10.000000",
                "a LimitRange of the namespace does not allow it: cpu max limit to request ratio per Container is 2, but provided ratio is 10.000000",
                "min or max",
            ),
            (
                "pods \"p\" is forbidden: ValidatingAdmissionPolicy 'uids' with binding 'all' denied request: UIDs are 10000 to 20000",
                "ValidatingAdmissionPolicy uids with binding all forbids it: UIDs are 10000 to 20000",
                "namespaceSelector",
            ),
            (
                "admission webhook \"images.example.com\" denied the request: only registry.example.com",
                "the admission webhook images.example.com forbids it: only registry.example.com",
                "exception",
            ),
            (
                "pods \"p\" is forbidden: no PriorityClass with name stackctl-failover was found",
                "the PriorityClass stackctl-failover, which it is to be of, is not there",
                "--priority-class NAME",
            ),
            (
                "pods \"p\" is forbidden: violates PodSecurity \"restricted:latest\": runAsNonRoot != true",
                "the namespace's Pod Security level forbids it: \"restricted:latest\": runAsNonRoot != true",
                "pod-security.kubernetes.io/enforce",
            ),
        ] {
            let told = Refusal::of(message).unwrap_or_else(|| panic!("{message}"));
            assert_eq!(told.why, why);
            assert!(told.remedy.contains(remedy), "{}", told.remedy);
        }
    }

    #[test]
    fn a_lack_of_rights_and_an_invalid_value_are_no_refusals_of_that_kind() {
        for message in [
            "pods is forbidden: User \"weak\" cannot create resource \"pods\" in API group \"\" in the namespace \"a\"",
            "Deployment.apps \"a\" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0",
            "failed calling webhook \"a\": no endpoints available",
            "admission webhook \"vcluster.cnpg.io\" denied the request: Cluster \"a\" is invalid: spec.instances",
            "spec.maximum Surge: must not be 0",
        ] {
            assert_eq!(Refusal::of(message), None, "{message}");
        }
    }
}
