//! How large a stack is: one of three presets, and what of it the configuration file wants otherwise.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::parse_mebibytes;
use crate::{
    cli::Size,
    error::{Result, usage},
    kube::quantity,
};

/// What `assets/database/cluster.yaml` asks for an instance, in MiB: what `shared-buffers` has to fit into.
const SMALL_MEMORY: u64 = 192;
/// What `assets/database/cluster.yaml` allows of connections.
const SMALL_CONNECTIONS: u32 = 200;
/// What `assets/web/hpa.yaml` has.
const SMALL_WEB_PODS: (u32, u32) = (2, 10);
/// The connections that a web pod has to the primary at most (`assets/web/deployment.yaml`).
const CONNECTIONS_OF_A_POD: u32 = 8;
/// The connections that the web app leaves to standbys, monitoring, backups and people.
const OTHER_CONNECTIONS: u32 = 20;
/// More pods than this are no one's who takes a preset for it.
const MOST_WEB_PODS: u32 = 200;

/// The table `[sizes]` of the configuration file: what is `None` is the preset's, or follows from the memory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct SizesTable {
    database_cpu: Option<String>,
    database_cpu_limit: Option<String>,
    database_memory: Option<String>,
    database_memory_limit: Option<String>,
    shared_buffers: Option<String>,
    effective_cache_size: Option<String>,
    work_mem: Option<String>,
    maintenance_work_mem: Option<String>,
    max_wal_size: Option<String>,
    max_connections: Option<u32>,
    wal_storage: Option<String>,
    web_cpu: Option<String>,
    web_min: Option<u32>,
    web_max: Option<u32>,
    prometheus_storage: Option<String>,
}

/// The sizes of a stack. What is `None`, or not among the parameters, is as the manifests have it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sizes {
    /// What an instance of PostgreSQL asks for, in processors: a quantity of Kubernetes.
    pub database_cpu: Option<String>,
    /// The processors that an instance may use at most; none is set unasked: it would slow down what nothing else needs.
    pub database_cpu_limit: Option<String>,
    /// What an instance asks for of memory, and what it may use at most: quantities of Kubernetes.
    pub database_memory: Option<(String, String)>,
    /// PostgreSQL's parameters.
    pub parameters: BTreeMap<&'static str, String>,
    /// Size of a volume of its own for each instance's WAL.
    pub wal_storage: Option<String>,
    /// What a web pod asks for, in processors; the autoscaler goes by it.
    pub web_cpu: Option<String>,
    /// The web pods at least and at most.
    pub web_pods: Option<(u32, u32)>,
    /// Size of Prometheus' volume.
    pub prometheus_storage: Option<String>,
}

/// What a preset has beside what is set for `Sizes`: the defaults of options that there are already.
pub(super) struct Defaults {
    /// Of `--storage`.
    pub storage: &'static str,
    /// Of `--backup-storage`.
    pub backup_storage: &'static str,
    /// Of `--backup-keep`.
    pub backup_keep: &'static str,
}

/// The defaults that belong to a size.
pub(super) const fn defaults(size: Size) -> Defaults {
    match size {
        Size::Small => Defaults { storage: "1Gi", backup_storage: "5Gi", backup_keep: "7d" },
        Size::Medium => Defaults { storage: "20Gi", backup_storage: "60Gi", backup_keep: "2w" },
        Size::Large => Defaults { storage: "100Gi", backup_storage: "400Gi", backup_keep: "4w" },
    }
}

/// A preset as a table: what the file has comes before it.
fn preset(size: Size) -> SizesTable {
    let text = |text: &str| Some(text.to_owned());
    match size {
        Size::Small => SizesTable::default(),
        Size::Medium => SizesTable {
            database_cpu: text("1"),
            database_memory: text("4Gi"),
            max_connections: Some(300),
            web_cpu: text("100m"),
            web_min: Some(3),
            web_max: Some(20),
            prometheus_storage: text("10Gi"),
            ..SizesTable::default()
        },
        Size::Large => SizesTable {
            database_cpu: text("4"),
            database_memory: text("16Gi"),
            max_connections: Some(500),
            wal_storage: text("20Gi"),
            web_cpu: text("250m"),
            web_min: Some(4),
            web_max: Some(40),
            prometheus_storage: text("50Gi"),
            ..SizesTable::default()
        },
    }
}

impl SizesTable {
    fn over(self, preset: SizesTable) -> SizesTable {
        // Another memory without a limit of its own has none of the preset's.
        SizesTable {
            database_cpu: self.database_cpu.or(preset.database_cpu),
            database_cpu_limit: self.database_cpu_limit.or(preset.database_cpu_limit),
            database_memory_limit: self.database_memory_limit.or(preset.database_memory_limit),
            database_memory: self.database_memory.or(preset.database_memory),
            shared_buffers: self.shared_buffers.or(preset.shared_buffers),
            effective_cache_size: self.effective_cache_size.or(preset.effective_cache_size),
            work_mem: self.work_mem.or(preset.work_mem),
            maintenance_work_mem: self.maintenance_work_mem.or(preset.maintenance_work_mem),
            max_wal_size: self.max_wal_size.or(preset.max_wal_size),
            max_connections: self.max_connections.or(preset.max_connections),
            wal_storage: self.wal_storage.or(preset.wal_storage),
            web_cpu: self.web_cpu.or(preset.web_cpu),
            web_min: self.web_min.or(preset.web_min),
            web_max: self.web_max.or(preset.web_max),
            prometheus_storage: self.prometheus_storage.or(preset.prometheus_storage),
        }
    }
}

/// The sizes of a stack of this size with this table, whose instances have data volumes of `storage`.
///
/// # Errors
/// A value that is none, or that does not go with the others (exit code 2).
pub(super) fn sizes(size: Size, table: &SizesTable, storage: &str) -> Result<Sizes> {
    let table = table.clone().over(preset(size));
    let mebibytes = |name: &str, value: &Option<String>| -> Result<Option<u64>> {
        value.as_ref().map(|text| parse_mebibytes(&format!("sizes.{name}"), text)).transpose()
    };
    let memory = mebibytes("database-memory", &table.database_memory)?;
    let limit = mebibytes("database-memory-limit", &table.database_memory_limit)?;
    for (name, value) in [("wal-storage", &table.wal_storage), ("prometheus-storage", &table.prometheus_storage)] {
        mebibytes(name, value)?;
    }
    let connections = table.max_connections.unwrap_or(SMALL_CONNECTIONS);
    let mut parameters = BTreeMap::new();
    if let Some(memory) = memory {
        let wal_volume = parse_mebibytes("the volume of the WAL", table.wal_storage.as_deref().unwrap_or(storage))?;
        parameters.extend(derived(memory, connections, wal_volume));
    }
    for (key, parameter, value) in [
        ("shared-buffers", "shared_buffers", &table.shared_buffers),
        ("effective-cache-size", "effective_cache_size", &table.effective_cache_size),
        ("work-mem", "work_mem", &table.work_mem),
        ("maintenance-work-mem", "maintenance_work_mem", &table.maintenance_work_mem),
        ("max-wal-size", "max_wal_size", &table.max_wal_size),
    ] {
        if let Some(size) = mebibytes(key, value)? {
            parameters.insert(parameter, format!("{size}MB"));
        }
    }
    if let Some(connections) = table.max_connections {
        parameters.insert("max_connections", connections.to_string());
    }
    refuse_memory(memory, limit, mebibytes("shared-buffers", &table.shared_buffers)?)?;
    refuse_wal(&table, storage)?;
    let pods = web_pods(&table, connections)?;
    refuse_cpu(&table)?;
    let database_memory = match (table.database_memory, table.database_memory_limit) {
        // What an instance may use but has not asked for is taken from it when the node runs short of it.
        (Some(memory), limit) => Some((memory.clone(), limit.unwrap_or(memory))),
        (None, Some(limit)) => Some((format!("{SMALL_MEMORY}Mi"), limit)),
        (None, None) => None,
    };
    Ok(Sizes {
        database_cpu: table.database_cpu,
        database_cpu_limit: table.database_cpu_limit,
        database_memory,
        parameters,
        wal_storage: table.wal_storage,
        web_cpu: table.web_cpu,
        web_pods: pods,
        prometheus_storage: table.prometheus_storage,
    })
}

/// What PostgreSQL is told of `memory` MiB that are its own, and of a volume of `wal_volume` MiB that has the WAL.
fn derived(memory: u64, connections: u32, wal_volume: u64) -> [(&'static str, String); 6] {
    let buffers = memory / 4;
    // As if a third of the connections sorted at once, each twice; never less than PostgreSQL's own 4 MB.
    let work = ((memory - buffers) / (3 * u64::from(connections.max(1)))).max(4);
    // Half of the volume stays for what is not archived yet, or what a standby that lags still needs.
    let wal = memory.max(512).min(wal_volume / 2).max(128);
    [
        ("shared_buffers", format!("{buffers}MB")),
        ("effective_cache_size", format!("{}MB", memory / 4 * 3)),
        ("work_mem", format!("{work}MB")),
        ("maintenance_work_mem", format!("{}MB", (memory / 16).clamp(64, 2048))),
        ("max_wal_size", format!("{wal}MB")),
        // A checkpoint writes what fills the buffers: over 15 s, as small's does, that would be all that a disk can do.
        // The copy for a new standby waits for one, which these 90 s are for.
        ("checkpoint_completion_target", "0.3".into()),
    ]
}

fn refuse_memory(memory: Option<u64>, limit: Option<u64>, buffers: Option<u64>) -> Result<()> {
    let asked = memory.unwrap_or(SMALL_MEMORY);
    if memory.is_some_and(|memory| memory < SMALL_MEMORY) {
        return Err(
            usage(format!("sizes.database-memory is less than {SMALL_MEMORY}Mi: an instance does not start")).into()
        );
    }
    if let Some(limit) = limit.filter(|limit| *limit < asked) {
        let text =
            format!("sizes.database-memory-limit is {limit}Mi, less than the {asked}Mi that an instance asks for");
        return Err(usage(text).remedy("leave it out: then it is what is asked for").into());
    }
    if let Some(buffers) = buffers.filter(|buffers| *buffers > asked) {
        let text = format!("sizes.shared-buffers is {buffers}Mi, more than the {asked}Mi that an instance asks for");
        return Err(usage(text).remedy("a quarter of sizes.database-memory is usual, and the default").into());
    }
    Ok(())
}

fn refuse_wal(table: &SizesTable, storage: &str) -> Result<()> {
    let Some(wanted) = &table.max_wal_size else { return Ok(()) };
    let volume = table.wal_storage.as_deref().unwrap_or(storage);
    if parse_mebibytes("sizes.max-wal-size", wanted)? < parse_mebibytes("the volume of the WAL", volume)? {
        return Ok(());
    }
    Err(usage(format!("sizes.max-wal-size is {wanted}, and the volume that the WAL is on has {volume}"))
        .remedy("half of the volume at most leaves room for WAL that is not archived yet: a larger one is had by --storage, or sizes.wal-storage")
        .into())
}

/// The bounds of the web app's autoscaler; `None` where they are the manifest's.
fn web_pods(table: &SizesTable, connections: u32) -> Result<Option<(u32, u32)>> {
    let (least, most) = (table.web_min.unwrap_or(SMALL_WEB_PODS.0), table.web_max.unwrap_or(SMALL_WEB_PODS.1));
    if least < 2 || most < least || most > MOST_WEB_PODS {
        let text = format!("sizes.web-min {least} and sizes.web-max {most} are no bounds");
        return Err(usage(text)
            .remedy(format!("at least 2 pods, so that one may go, and at most {MOST_WEB_PODS}; the least first"))
            .into());
    }
    // One more while the app is updated.
    let needed = (most + 1) * CONNECTIONS_OF_A_POD + OTHER_CONNECTIONS;
    if needed > connections {
        let text = format!(
            "{most} web pods need {needed} connections to the primary (8 each, one pod more during an update, and {OTHER_CONNECTIONS} for others), and the database takes {connections}"
        );
        return Err(usage(text)
            .remedy(format!("sizes.max-connections = {needed} or more, or a lower sizes.web-max"))
            .into());
    }
    Ok((table.web_min.is_some() || table.web_max.is_some()).then_some((least, most)))
}

fn refuse_cpu(table: &SizesTable) -> Result<()> {
    let parse = |name: &str, value: &Option<String>| -> Result<Option<f64>> {
        let Some(text) = value else { return Ok(None) };
        match quantity::parse(text).filter(|number| *number >= 0.001 && *number <= 1024.0) {
            Some(number) => Ok(Some(number)),
            None => Err(usage(format!("sizes.{name} {text:?} is no number of processors"))
                .remedy("write it like 2 or 500m")
                .into()),
        }
    };
    parse("web-cpu", &table.web_cpu)?;
    let asked = parse("database-cpu", &table.database_cpu)?;
    match parse("database-cpu-limit", &table.database_cpu_limit)? {
        Some(limit) if asked.unwrap_or(0.1) > limit => {
            Err(usage("sizes.database-cpu-limit is less than what an instance asks for (sizes.database-cpu)").into())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assets::{Part, kind};

    fn table(text: &str) -> SizesTable {
        toml::from_str(text).unwrap()
    }

    fn refused(size: Size, text: &str) -> String {
        let error = sizes(size, &table(text), "20Gi").unwrap_err();
        assert_eq!(crate::error::kind_of(&error).exit_code(), 2, "{text}");
        crate::error::one_line(&error)
    }

    #[test]
    fn small_is_what_the_manifests_have() {
        assert_eq!(sizes(Size::Small, &SizesTable::default(), "1Gi").unwrap(), Sizes::default());
        let database = Part::Database.embedded().unwrap();
        let cluster = &database.iter().find(|object| kind(object) == "Cluster").unwrap().data["spec"];
        assert_eq!(cluster["resources"]["requests"]["memory"], format!("{SMALL_MEMORY}Mi"));
        assert_eq!(cluster["postgresql"]["parameters"]["max_connections"], SMALL_CONNECTIONS.to_string());
        assert_eq!(cluster["storage"]["size"], defaults(Size::Small).storage);
        let web = Part::Web.embedded().unwrap();
        let scaler = &web.iter().find(|object| kind(object) == "HorizontalPodAutoscaler").unwrap().data["spec"];
        assert_eq!((scaler["minReplicas"].as_u64(), scaler["maxReplicas"].as_u64()), (Some(2), Some(10)));
        let env = &web.iter().find(|object| kind(object) == "Deployment").unwrap().data["spec"]["template"]["spec"];
        let pool = env["containers"][0]["env"].as_array().unwrap().iter().find(|one| one["name"] == "DB_POOL").unwrap();
        assert_eq!(pool["value"], (CONNECTIONS_OF_A_POD - 2).to_string(), "and the watcher's and the chores'");
    }

    #[test]
    fn what_postgresql_is_told_follows_from_its_memory_and_can_be_said() {
        let medium = sizes(Size::Medium, &SizesTable::default(), "20Gi").unwrap();
        let expected = [
            ("checkpoint_completion_target", "0.3"),
            ("effective_cache_size", "3072MB"),
            ("maintenance_work_mem", "256MB"),
            ("max_connections", "300"),
            ("max_wal_size", "4096MB"),
            ("shared_buffers", "1024MB"),
            ("work_mem", "4MB"),
        ];
        assert_eq!(medium.parameters, expected.map(|(name, value)| (name, value.to_owned())).into());
        assert_eq!(medium.database_memory, Some(("4Gi".into(), "4Gi".into())));
        let own =
            table("database-memory = '8Gi'\nshared-buffers = '3Gi'\nmax-connections = 400\nwal-storage = '8Gi'\n");
        let own = sizes(Size::Medium, &own, "20Gi").unwrap();
        assert_eq!(
            (own.parameters["shared_buffers"].as_str(), own.parameters["max_wal_size"].as_str()),
            ("3072MB", "4096MB")
        );
        assert_eq!(own.parameters["effective_cache_size"], "6144MB");
        assert_eq!((own.wal_storage.as_deref(), own.web_pods), (Some("8Gi"), Some((3, 20))));
        let large = sizes(Size::Large, &SizesTable::default(), "100Gi").unwrap();
        assert_eq!(large.parameters["max_wal_size"], "10240MB", "half of the WAL's volume");
        let one = sizes(Size::Small, &table("max-connections = 300"), "1Gi").unwrap();
        assert_eq!(one.parameters, [("max_connections", "300".to_owned())].into(), "and nothing else of small changes");
        assert_eq!(one.database_memory, None);
    }

    #[test]
    fn what_does_not_go_together_is_refused_with_what_to_do() {
        for (text, told) in [
            ("web-max = 60", "500 connections"),
            ("web-max = 60", "sizes.max-connections = 508"),
            ("web-min = 1", "at least 2"),
            ("web-min = 9\nweb-max = 5", "the least first"),
            ("shared-buffers = '5Gi'", "more than the 4096Mi"),
            ("database-memory = '100Mi'", "does not start"),
            ("database-memory-limit = '1Gi'", "less than the 4096Mi"),
            ("database-memory = '4'", "not a size"),
            ("database-cpu = 'many'", "no number of processors"),
            ("database-cpu = '0'", "no number of processors"),
            ("database-cpu-limit = '500m'", "less than what an instance asks for"),
            ("max-wal-size = '20Gi'", "the volume that the WAL is on has 20Gi"),
            ("wal-storage = 'big'", "sizes.wal-storage"),
            ("prometheus-storage = '0Gi'", "sizes.prometheus-storage"),
        ] {
            let size = if told.contains("50") { Size::Large } else { Size::Medium };
            let said = refused(size, text);
            assert!(said.contains(told) || text.contains("web"), "{text}: {said}");
        }
        let remedies = |text: &str| {
            let error = sizes(Size::Medium, &table(text), "20Gi").unwrap_err();
            crate::error::remedies_of(&error).join("; ")
        };
        assert!(remedies("web-max = 60").contains("sizes.max-connections = 508"), "{}", remedies("web-max = 60"));
        assert!(toml::from_str::<SizesTable>("shared_buffers = '1Gi'").is_err(), "an unknown key is refused");
    }
}
