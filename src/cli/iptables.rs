//! `mainsheet iptables`: captures the traffic of a pod, as the init container that injection adds does.

use crate::{
    capture::{FLAGS, Flag, Kind, Options as Capture, RuleSet, Settings},
    hostnet,
};
use anyhow::Result;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, parser::ValueSource};
use std::{env, process::ExitCode};

/// What Kubernetes shows of a pod whose traffic is not captured.
const NOT_CAPTURED: u8 = 126;
/// Flags of Istio's log, which injection templates pass: `true` where a value follows.
const LOG_FLAGS: [(&str, bool); 6] = [
    ("log_output_level", true),
    ("log_stacktrace_level", true),
    ("log_target", true),
    ("log_caller", true),
    ("vklog", true),
    ("log_as_json", false),
];

/// `mainsheet iptables`.
#[derive(Debug)]
pub(super) struct Options {
    settings: Settings,
    self_check: bool,
}

impl Args for Options {
    fn augment_args(command: Command) -> Command {
        let command = FLAGS.iter().filter_map(argument).fold(command, Command::arg);
        let command = LOG_FLAGS.iter().fold(command, |command, (name, valued)| {
            let action = if *valued { ArgAction::Set } else { ArgAction::SetTrue };
            command.arg(Arg::new(*name).long(*name).action(action).hide(true))
        });
        command
            .arg(
                Arg::new("self-check")
                    .long("self-check")
                    .action(ArgAction::SetTrue)
                    .help("Say what the rules need of this machine and what of it is missing, and set none"),
            )
            .after_help(variables())
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Options {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut settings = Settings::of_environment(|name| env::var(name).ok());
        for flag in FLAGS.iter().filter(|f| f.kind != Kind::Variable) {
            if matches.value_source(flag.name) == Some(ValueSource::CommandLine)
                && let Some(value) = matches.get_one::<String>(flag.name)
            {
                settings.set(flag.name, value, format!("--{}", flag.name));
            }
        }
        Ok(Self { settings, self_check: matches.get_flag("self-check") })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

fn argument(flag: &Flag) -> Option<Arg> {
    if flag.kind == Kind::Variable {
        return None;
    }
    let mut help = flag.help.to_owned();
    if !flag.default.is_empty() && flag.kind == Kind::Text {
        help = format!("{help} [default: {}]", flag.default);
    }
    if !flag.variables.is_empty() {
        help = format!("{help} [env: {}]", flag.variables.join(", "));
    }
    let mut arg = Arg::new(flag.name).long(flag.name).help(help).action(ArgAction::Set).overrides_with(flag.name);
    if let Some(short) = flag.short {
        arg = arg.short(short);
    }
    if flag.name == "cleanup-only" {
        arg = arg.visible_alias("cleanup");
    }
    Some(match flag.kind {
        Kind::Switch => arg.num_args(0..=1).require_equals(true).default_missing_value("true").value_name("BOOL"),
        _ => arg.value_name("VALUE").allow_hyphen_values(true),
    })
}

fn variables() -> String {
    let lines = FLAGS.iter().filter(|f| f.kind == Kind::Variable).map(|f| {
        let default = if f.default.is_empty() { String::new() } else { format!(" [default: {}]", f.default) };
        format!("  {}\n          {}{default}\n", f.name, f.help)
    });
    format!("Environment variables that no flag stands for:\n{}", lines.collect::<String>())
}

pub(super) fn clean(mut options: Options) -> Result<ExitCode> {
    options.settings.set("cleanup-only", "true", "the command");
    iptables(&options)
}

pub(super) fn iptables(options: &Options) -> Result<ExitCode> {
    let asked = match Capture::read(&options.settings, &hostnet::names()) {
        Ok(asked) => asked,
        Err(wrong) => {
            wrong.iter().for_each(|line| eprintln!("mainsheet: {line}"));
            return Ok(ExitCode::from(super::USAGE));
        }
    };
    if let Some(namespace) = &asked.network_namespace {
        hostnet::enter(namespace)?;
    }
    if asked.cleanup_only {
        if asked.dry_run {
            println!("# all rules would be removed");
            return Ok(ExitCode::SUCCESS);
        }
        hostnet::clean(&asked)?;
        eprintln!("mainsheet: nothing is captured any more");
        return Ok(ExitCode::SUCCESS);
    }
    let network = hostnet::network(&asked)?;
    if options.self_check {
        let findings = hostnet::check(&asked, &RuleSet::of(&asked, &network));
        findings.iter().for_each(|finding| println!("{finding}"));
        return Ok(super::offline::exit(findings.iter().any(|f| !f.good)));
    }
    if asked.dry_run {
        print!("{}", hostnet::dry_run(&asked, &network));
    } else if !asked.skip_rule_apply {
        let outcome = hostnet::apply(&asked, &network)?;
        outcome.warnings.iter().for_each(|warning| eprintln!("mainsheet: {warning}"));
        let versions = if network.ipv6 { "IPv4 and IPv6" } else { "IPv4" };
        eprintln!("mainsheet: {} rules are set by {} for {versions}", outcome.rules, outcome.backend);
    }
    if asked.run_validation
        && !asked.dry_run
        && let Err(error) = hostnet::probe(&asked, network.ipv6)
    {
        eprintln!(
            "mainsheet: the traffic of this pod is not captured: {error:#}\nWith the CNI plugin this happens to a pod \
             that came to its node before the plugin: it is repaired where the plugin's installer may delete or label \
             pods; otherwise delete it, so that it is made anew."
        );
        return Ok(ExitCode::from(NOT_CAPTURED));
    }
    Ok(ExitCode::SUCCESS)
}
