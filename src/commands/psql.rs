//! `stackctl psql`: psql inside the pod of the primary, or of a standby, as the database's superuser over
//! its local socket; no password leaves the cluster.

use std::io::IsTerminal;

use crate::{
    cli::{Global, PsqlArgs, Role},
    commands::configured::configured,
    config::Options,
    context::Context,
    database::Overview,
    error::{Result, failed},
    kube::exec,
    names::{APP_DATABASE, POSTGRES},
    ui::Reporter,
};

/// Runs psql; the code is psql's own.
///
/// # Errors
/// No cluster, no database, or no instance in that role.
pub async fn run(global: &Global, args: &PsqlArgs) -> Result<u8> {
    let config = configured(global, &Options::default())?;
    let cx = Context::new(config, Reporter::discard())?;
    let kube = cx.kube().await?;
    let namespace = &cx.config.stack.namespace;
    let cluster = match &args.cluster {
        Some(cluster) => cluster.clone(),
        None => cx.database().await?,
    };
    let overview = Overview::read(kube, namespace, &cluster).await?;
    let pod = match args.role {
        Role::Primary => overview.primary,
        Role::Standby => overview.members.into_iter().find(|member| !member.primary).map(|member| member.name),
    };
    let pod = pod.ok_or_else(|| {
        failed("no instance has that role at the moment").remedy("stackctl status shows each instance's role")
    })?;
    let mut command = vec!["psql", "-d", APP_DATABASE];
    command.extend(args.args.iter().map(String::as_str));
    let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    exec::attach(kube, namespace, &pod, POSTGRES, &command, terminal).await
}
