//! istiod's flags and environment that have no meaning here: accepted, so that a command line made for istiod
//! works, and told.

use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches};

/// istiod's flags without a meaning here, and why. Those that end in `?` need no value.
const FLAGS: &[(&str, &str)] = &[
    ("networksConfig", "all endpoints are taken to be in one network"),
    ("registries", "objects come from a cluster or from files"),
    ("clusterRegistriesNamespace", KUBERNETES),
    ("kubernetesApiQPS", KUBERNETES),
    ("kubernetesApiBurst", KUBERNETES),
    ("cniNamespace", KUBERNETES),
    ("clusterAliases", KUBERNETES),
    ("caCertFile", TLS),
    ("tlsCertFile", TLS),
    ("tlsKeyFile", TLS),
    ("tls-min-version", TLS),
    ("tls-cipher-suites", TLS),
    ("profile?", "there are no pages of Go's profiler"),
    ("ctrlz_port", CONTROLZ),
    ("ctrlz_address", CONTROLZ),
    ("log_caller", LOG),
    ("log_rotate", LOG),
    ("log_rotate_max_age", LOG),
    ("log_rotate_max_backups", LOG),
    ("log_rotate_max_size", LOG),
    ("log_stacktrace_level", LOG),
    ("log_target", LOG),
    ("vklog", LOG),
];

const KUBERNETES: &str = "it is not served yet";
const TLS: &str = "certificates and settings of TLS come from --ca-dir alone";
const CONTROLZ: &str = "there is no ControlZ";
const LOG: &str = "the log goes to the standard error";

/// istiod's flags that were given and mean nothing here.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Unused(Vec<(&'static str, &'static str)>);

impl Unused {
    /// Each flag that was given, and why it means nothing.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.0.iter().copied()
    }
}

fn name(flag: &'static str) -> &'static str {
    flag.trim_end_matches('?')
}

impl Args for Unused {
    fn augment_args(command: Command) -> Command {
        FLAGS.iter().fold(command, |command, (flag, _)| {
            let arg = Arg::new(name(flag)).long(name(flag)).hide(true).action(ArgAction::Append);
            command.arg(match flag.ends_with('?') {
                true => arg.num_args(0..=1).require_equals(true),
                false => arg.num_args(1).allow_hyphen_values(true),
            })
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Unused {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let given = FLAGS.iter().filter(|(flag, _)| matches.value_source(name(flag)).is_some());
        Ok(Self(given.map(|(flag, why)| (name(flag), *why)).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
