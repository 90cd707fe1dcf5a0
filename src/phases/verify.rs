//! Asks the parts themselves, rather than what the cluster says of them: the app answers through its
//! Service, and no commit is acknowledged before a standby has it.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures::future::LocalBoxFuture;

use super::{Phase, bucket};
use crate::{
    context::Context,
    database::{self, settings},
    error::{Failure, Result, failed, timed_out},
    poll::{self, Tries},
    ui::PhaseId,
};

/// How long the operator may not know which standbys confirm commits: it loses sight of them for some seconds after
/// every change of the database's configuration, the last one being that all instances are there.
const KNOWS_WITHIN: Duration = Duration::from_secs(60);
/// The time after which a quorum that is not known is asked for again.
const TOUCH_EVERY: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Checks the running stack from the outside.
pub struct Verify;

impl Phase for Verify {
    fn id(&self) -> PhaseId {
        PhaseId::Verify
    }

    fn title(&self) -> String {
        "Verify".into()
    }

    fn after(&self) -> &'static [PhaseId] {
        &[PhaseId::Web, PhaseId::Database, PhaseId::Autoscaling]
    }

    fn run<'a>(&'a self, cx: &'a Context) -> LocalBoxFuture<'a, Result<String>> {
        Box::pin(async {
            let kube = cx.kube().await?;
            let (namespace, cluster) = (&cx.config.stack.namespace, cx.database().await?);
            let (answer, replication) =
                tokio::try_join!(ask_app(cx, namespace), database::Replication::read(kube, namespace, &cluster))?;
            let mut replication = replication;
            if cure(cx, namespace, &cluster).await? {
                replication = database::Replication::read(kube, namespace, &cluster).await?;
            }
            if replication.synchronous() == 0 {
                return Err(failed("no standby confirms commits: synchronous replication is not active")
                    .remedy("stackctl status shows each instance; stackctl logs database says why")
                    .into());
            }
            promotable(cx, namespace, &cluster).await?;
            bucket::check_unused(cx).await?;
            Ok(format!("the app answers {answer}, {} synchronous standbys", replication.synchronous()))
        })
    }

    fn plan<'a>(&'a self, _: &'a Context) -> LocalBoxFuture<'a, Result<Vec<String>>> {
        Box::pin(async {
            Ok(vec![
                "ask the app for its list of users through its Service".into(),
                "ask the primary whether its standbys confirm commits, and the operator's FailoverQuorum which do"
                    .into(),
            ])
        })
    }
}

/// Has the instances whose configuration files were changed and never read read them; returns whether there were any.
async fn cure(cx: &Context, namespace: &str, cluster: &str) -> Result<bool> {
    let kube = cx.kube().await?;
    let stale = settings::reload_stale(kube, namespace, cluster).await?;
    if stale.is_empty() {
        return Ok(false);
    }
    cx.doing(PhaseId::Verify, format!("having {} read the configuration again", stale.join(", ")));
    let late = || late("an instance does not run with its configuration, or no standby confirms commits");
    poll::until_or(KNOWS_WITHIN, LOOK_EVERY, late, || async {
        let stale = settings::stale(kube, namespace, cluster).await?;
        let confirming = database::Replication::read(kube, namespace, cluster).await?.synchronous();
        Ok((stale.is_empty() && confirming > 0).then_some(true))
    })
    .await
}

/// The failure of a wait for the primary or the operator to know of its standbys.
fn late(why: &str) -> Failure {
    timed_out(format!("{why}: that did not change within {KNOWS_WITHIN:?}"))
        .remedy("stackctl logs operator and stackctl logs database say why")
}

/// Waits until the operator would promote a standby, were the primary lost now.
async fn promotable(cx: &Context, namespace: &str, cluster: &str) -> Result<()> {
    let kube = cx.kube().await?;
    let (mut tries, mut touched) = (Tries::within(KNOWS_WITHIN, LOOK_EVERY), Instant::now());
    loop {
        let primary = database::primary(kube, namespace, cluster).await?;
        if database::quorum_is_known(kube, namespace, cluster, &primary).await? {
            return Ok(());
        }
        // Whoever writes it down may have missed the last change: it is made to look again.
        if touched.elapsed() > TOUCH_EVERY {
            settings::refresh(kube, namespace, cluster, &primary).await?;
            touched = Instant::now();
        }
        cx.doing(PhaseId::Verify, "the operator is yet to know which standbys confirm commits");
        if !tries.another().await {
            let why = "the operator does not know which standbys confirm commits, and would promote nobody";
            return Err(late(why).into());
        }
    }
}

/// Reads the first page of users through the API server's proxy to the Service; the status line is returned.
async fn ask_app(cx: &Context, namespace: &str) -> Result<String> {
    let path = format!("/api/v1/namespaces/{namespace}/services/user-app:80/proxy/api/v1/users?limit=1");
    let request = http::Request::get(path).body(Vec::new())?;
    let body = cx
        .until_deadline("the app's answer", async {
            let client = cx.kube().await?.client();
            client.request_text(request).await.context("the app does not answer through its Service")
        })
        .await?;
    let _: serde_json::Value =
        serde_json::from_str(&body).context("the app answers, but not with its list of users")?;
    Ok("200".into())
}
