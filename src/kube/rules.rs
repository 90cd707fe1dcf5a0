//! What a namespace wants of the containers in it: its ResourceQuotas and LimitRanges.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{LimitRange, LimitRangeItem, ResourceQuota},
    apimachinery::pkg::api::resource::Quantity,
};
use kube::ResourceExt;
use serde_json::{Value, json};

use super::quantity;

const RESOURCES: [&str; 2] = ["cpu", "memory"];
/// How many times what a container asks for it may use at most, where a limit is wanted and it has none: a limit of CPU
/// stops a container that has used it up for the rest of each tenth of a second, whatever idles beside it, and a commit or
/// a failover with it.
const GENEROUS: f64 = 10.0;
/// The least of such a limit, in processors.
const LEAST_CPU_LIMIT: f64 = 0.1;
/// What a container asks for that says nothing, where something must be said: processors and bytes.
const UNSAID: [f64; 2] = [0.05, 64.0 * 1024.0 * 1024.0];

/// A ResourceQuota: what there may be, and what there is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Quota {
    /// The quota's name.
    pub name: String,
    /// How much there may be at most, by what is counted, e.g. `limits.cpu`.
    pub hard: BTreeMap<String, f64>,
    /// How much of that there is.
    pub used: BTreeMap<String, f64>,
}

/// What LimitRanges want of one resource of every container.
#[derive(Debug, Clone, Default, PartialEq)]
struct Bounds {
    min: Option<f64>,
    max: Option<f64>,
    /// The limit that a container gets which has none.
    default: Option<f64>,
    /// How many times what it asks for a container may use at most.
    ratio: Option<f64>,
}

/// What a namespace wants of the containers in it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ContainerRules {
    /// The namespace's quotas.
    pub quotas: Vec<Quota>,
    /// The names of its LimitRanges.
    ranges: Vec<String>,
    bounds: BTreeMap<String, Bounds>,
}

impl ContainerRules {
    /// The rules of a namespace with these quotas and ranges.
    pub(super) fn of(quotas: &[ResourceQuota], ranges: &[LimitRange]) -> ContainerRules {
        let amounts = |all: Option<&BTreeMap<String, Quantity>>| -> BTreeMap<String, f64> {
            // `cpu` and `memory` are what is asked for, by their older names.
            let named =
                |name: &str| if RESOURCES.contains(&name) { format!("requests.{name}") } else { name.to_owned() };
            all.into_iter()
                .flatten()
                .filter_map(|(name, amount)| Some((named(name), quantity::parse(&amount.0)?)))
                .collect()
        };
        // One with scopes is for some pods only: the server tells what it refuses.
        let unscoped = |quota: &&ResourceQuota| {
            quota.spec.as_ref().is_some_and(|spec| spec.scopes.is_none() && spec.scope_selector.is_none())
        };
        let quotas = quotas.iter().filter(unscoped).map(|quota| Quota {
            name: quota.name_any(),
            hard: amounts(quota.spec.as_ref().and_then(|spec| spec.hard.as_ref())),
            used: amounts(quota.status.as_ref().and_then(|status| status.used.as_ref())),
        });
        let mut rules = ContainerRules { quotas: quotas.collect(), ..ContainerRules::default() };
        for range in ranges {
            rules.ranges.push(range.name_any());
            let items = range.spec.iter().flat_map(|spec| &spec.limits);
            items.filter(|item| item.type_ == "Container").for_each(|item| rules.add(item));
        }
        rules
    }

    fn add(&mut self, item: &LimitRangeItem) {
        for resource in RESOURCES {
            let read = |all: &Option<BTreeMap<String, Quantity>>| quantity::parse(&all.as_ref()?.get(resource)?.0);
            let bounds = self.bounds.entry(resource.to_owned()).or_default();
            let both = |a: Option<f64>, b: Option<f64>, of: fn(f64, f64) -> f64| match (a, b) {
                (Some(a), Some(b)) => Some(of(a, b)),
                (one, other) => one.or(other),
            };
            bounds.min = both(bounds.min, read(&item.min), f64::max);
            bounds.max = both(bounds.max, read(&item.max), f64::min);
            bounds.default = both(bounds.default, read(&item.default), f64::min);
            bounds.ratio = both(bounds.ratio, read(&item.max_limit_request_ratio), f64::min);
        }
    }

    /// Whether nothing is wanted of containers.
    pub fn is_empty(&self) -> bool {
        self.quotas.is_empty() && self.bounds.is_empty()
    }

    /// Whether a quota counts this, so that every container has to say it.
    fn counts(&self, name: &str) -> bool {
        self.quotas.iter().any(|quota| quota.hard.contains_key(name))
    }

    /// Completes the `resources` of a container by what is wanted and does not weaken it: a limit that it lacks, and what it
    /// asks for where that is too little.
    pub fn fit(&self, resources: &mut Value) {
        for (resource, unsaid) in RESOURCES.into_iter().zip(UNSAID) {
            let bounds = self.bounds.get(resource).cloned().unwrap_or_default();
            let read = |what: &str| resources[what][resource].as_str().and_then(quantity::parse);
            let (said_request, said_limit) = (read("requests"), read("limits"));
            let (mut request, mut limit) = (said_request, said_limit);
            if request.is_none() && (bounds.min.is_some() || self.counts(&format!("requests.{resource}"))) {
                request = Some(limit.unwrap_or(unsaid));
            }
            request = request.map(|asked| asked.max(bounds.min.unwrap_or(0.0)));
            if limit.is_none() && (bounds.default.is_some() || self.counts(&format!("limits.{resource}"))) {
                let least = if resource == "cpu" { LEAST_CPU_LIMIT } else { 0.0 };
                let generous = (request.unwrap_or(unsaid) * GENEROUS).max(least).max(bounds.default.unwrap_or(0.0));
                let by_ratio = bounds.ratio.map_or(f64::INFINITY, |ratio| request.unwrap_or(generous) * ratio);
                limit = Some(generous.min(bounds.max.unwrap_or(f64::INFINITY)).min(by_ratio));
            }
            if let (Some(most), Some(asked)) = (limit, request) {
                limit = Some(most.max(asked));
                if let Some(ratio) = bounds.ratio.filter(|ratio| most > asked * ratio * (1.0 + 1e-9)) {
                    request = Some(most / ratio);
                }
            }
            for (what, said, wanted) in [("requests", said_request, request), ("limits", said_limit, limit)] {
                if wanted != said
                    && let Some(wanted) = wanted
                {
                    resources[what][resource] = json!(written(resource, wanted));
                }
            }
        }
    }

    /// Completes every container of a pod, by its `spec`.
    pub fn fit_pod(&self, spec: &mut Value) {
        for containers in ["initContainers", "containers"] {
            let all = spec.get_mut(containers).and_then(Value::as_array_mut);
            for container in all.into_iter().flatten() {
                let mut resources = container["resources"].take();
                self.fit(&mut resources);
                match resources {
                    // Nothing was said, and nothing has to be.
                    Value::Null => drop(container.as_object_mut().and_then(|fields| fields.remove("resources"))),
                    resources => container["resources"] = resources,
                }
            }
        }
    }

    /// Says what of the `resources` of a container a LimitRange does not allow, in words.
    pub fn refuses(&self, resources: &Value) -> Option<String> {
        RESOURCES.into_iter().find_map(|resource| {
            let most = self.bounds.get(resource)?.max?;
            ["limits", "requests"].into_iter().find_map(|what| {
                let asked = resources[what][resource].as_str()?;
                (quantity::parse(asked)? > most).then(|| {
                    let does = if what == "limits" { "may use" } else { "asks for" };
                    let most = written(resource, most);
                    format!(
                        "{does} {asked} of {resource}, and LimitRange {} allows {most} at most",
                        self.ranges.join(" or ")
                    )
                })
            })
        })
    }
}

/// An amount as Kubernetes writes it, rounded up.
pub fn written(resource: &str, amount: f64) -> String {
    match resource {
        "cpu" | "requests.cpu" | "limits.cpu" => format!("{:.0}m", (amount * 1000.0 - 1e-6).ceil()),
        "memory" | "requests.memory" | "limits.memory" | "requests.storage" => {
            format!("{:.0}Mi", (amount / 1024_f64.powi(2) - 1e-6).ceil())
        }
        _ => format!("{amount:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(hard: &Value, item: &Value) -> ContainerRules {
        let quota =
            json!({"metadata": {"name": "team"}, "spec": {"hard": hard}, "status": {"used": {"limits.cpu": "1"}}});
        let range = json!({"metadata": {"name": "sizes"}, "spec": {"limits": [item]}});
        ContainerRules::of(&[serde_json::from_value(quota).unwrap()], &[serde_json::from_value(range).unwrap()])
    }

    fn fitted(rules: &ContainerRules, resources: &Value) -> Value {
        let mut resources = resources.clone();
        rules.fit(&mut resources);
        resources
    }

    #[test]
    fn without_quotas_and_ranges_nothing_is_touched() {
        let ours = json!({"requests": {"cpu": "40m", "memory": "32Mi"}, "limits": {"memory": "64Mi"}});
        assert_eq!(fitted(&ContainerRules::default(), &ours), ours);
        let mut pod = json!({"containers": [{"name": "a"}], "initContainers": [{"name": "b", "resources": ours}]});
        let before = pod.clone();
        ContainerRules::default().fit_pod(&mut pod);
        assert_eq!(pod, before);
        assert!(ContainerRules::default().is_empty());
    }

    #[test]
    fn a_quota_of_limits_gets_limits_that_leave_room() {
        let rules =
            rules(&json!({"limits.cpu": "8", "limits.memory": "8Gi", "cpu": "2"}), &json!({"type": "Container"}));
        let ours = json!({"requests": {"cpu": "40m", "memory": "32Mi"}, "limits": {"memory": "64Mi"}});
        assert_eq!(
            fitted(&rules, &ours),
            json!({
            "requests": {"cpu": "40m", "memory": "32Mi"}, "limits": {"cpu": "400m", "memory": "64Mi"}})
        );
        let small = json!({"requests": {"cpu": "5m", "memory": "4Mi"}, "limits": {"memory": "32Mi"}});
        assert_eq!(fitted(&rules, &small)["limits"]["cpu"], "100m");
        let mut pod = json!({"containers": [{"name": "prober"}]});
        rules.fit_pod(&mut pod);
        let expected = json!({"requests": {"cpu": "50m"}, "limits": {"cpu": "500m", "memory": "640Mi"}});
        assert_eq!(pod["containers"][0]["resources"], expected);
        assert_eq!((rules.quotas[0].hard["requests.cpu"], rules.quotas[0].used["limits.cpu"]), (2.0, 1.0));
    }

    #[test]
    fn a_range_raises_what_is_asked_for_and_never_lowers_a_limit_of_ours() {
        let item = json!({"type": "Container", "min": {"cpu": "100m", "memory": "64Mi"}, "max": {"cpu": "500m", "memory": "256Mi"},
            "default": {"cpu": "500m", "memory": "256Mi"}});
        let rules = rules(&json!({}), &item);
        let ours = json!({"requests": {"cpu": "40m", "memory": "32Mi"}, "limits": {"memory": "48Mi"}});
        let expected =
            json!({"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "500m", "memory": "64Mi"}});
        assert_eq!(fitted(&rules, &ours), expected);
        let large = json!({"requests": {"memory": "192Mi", "cpu": "100m"}, "limits": {"memory": "512Mi"}});
        let left = fitted(&rules, &large);
        assert_eq!(left["limits"]["memory"], "512Mi");
        let told = rules.refuses(&left).unwrap();
        assert_eq!(told, "may use 512Mi of memory, and LimitRange sizes allows 256Mi at most");
        assert_eq!(rules.refuses(&expected), None);
    }

    #[test]
    fn a_ratio_is_kept_by_asking_for_more() {
        let rules = rules(
            &json!({"limits.cpu": "8"}),
            &json!({"type": "Container", "maxLimitRequestRatio": {"cpu": "2", "memory": "2"}}),
        );
        let ours = json!({"requests": {"cpu": "100m", "memory": "192Mi"}, "limits": {"memory": "512Mi"}});
        let expected =
            json!({"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"cpu": "200m", "memory": "512Mi"}});
        assert_eq!(fitted(&rules, &ours), expected);
        assert_eq!(fitted(&rules, &expected), expected, "once more changes nothing");
    }
}
