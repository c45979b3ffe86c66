//! The programs that set the packet filter: which are there, which of them the kernel can be told by, and how they
//! are run.

use crate::capture::{Options, Variant};
use anyhow::{Context as _, Result, anyhow, bail};
use std::{
    env,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Where programs are that are not on the path of a small image.
const ALSO: [&str; 4] = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/local/bin"];
/// How many lines `iptables-save` writes where there is a rule, at least.
const LINES_OF_A_RULE: usize = 3;

/// One set of iptables programs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Iptables {
    /// What its programs begin with: `iptables-legacy`, `iptables-nft` or `iptables`.
    name: &'static str,
    lock: Option<PathBuf>,
}

/// What rules are set by.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Backend {
    /// iptables.
    Iptables(Iptables),
    /// nft.
    Nft,
}

impl Backend {
    /// What a message calls it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Iptables(iptables) => iptables.name,
            Self::Nft => "nft",
        }
    }

    /// That which options ask for, or else the one that has rules already, or else the one that works.
    ///
    /// # Errors
    ///
    /// Where none works: what was wrong with each.
    pub(super) fn choose(options: &Options) -> Result<Self> {
        if options.native_nftables {
            return nft(&["list", "tables"], "").map(|_| Self::Nft);
        }
        let all = Iptables::all(options);
        if let Some(variant) = options.variant {
            let one = all.into_iter().find(|i| i.variant() == Some(variant)).expect("each kind is listed");
            one.works().with_context(|| format!("--force-iptables-binary asks for {}", one.name))?;
            return Ok(Self::Iptables(one));
        }
        let mut wrong = Vec::new();
        let [legacy, newer, plain] = all;
        let has_rules = |i: &Iptables| i.save(false).is_ok_and(|t| t.lines().count() >= LINES_OF_A_RULE);
        let order = if has_rules(&legacy) { [legacy, newer, plain] } else { [newer, plain, legacy] };
        for one in order {
            match one.works() {
                Ok(()) => return Ok(Self::Iptables(one)),
                Err(error) => wrong.push(format!("{}: {error:#}", one.name)),
            }
        }
        match nft(&["list", "tables"], "") {
            Ok(_) => Ok(Self::Nft),
            Err(error) => bail!("nothing can set rules here:\n  {}\n  nft: {error:#}", wrong.join("\n  ")),
        }
    }
}

impl Iptables {
    /// Those that may be there: of old, on nftables, and whichever goes by the plain name.
    pub(super) fn all(options: &Options) -> [Self; 3] {
        // The node's own lock is for the node's own rules; who changes a pod's waits for nobody else.
        let lock = options.network_namespace.clone().filter(|_| options.cni_mode);
        ["iptables-legacy", "iptables-nft", "iptables"].map(|name| Self { name, lock: lock.clone() })
    }

    /// Which kind they are, of which the plain name does not tell. None where they are not there.
    pub(super) fn variant(&self) -> Option<Variant> {
        match self.name {
            "iptables-legacy" => Some(Variant::Legacy),
            "iptables-nft" => Some(Variant::Nft),
            _ => {
                let version = run(&self.program(false, "restore"), &["--version"], "", None).ok()?;
                Some(if version.contains("nf_tables") { Variant::Nft } else { Variant::Legacy })
            }
        }
    }

    fn program(&self, ipv6: bool, end: &str) -> String {
        let name = if ipv6 { format!("ip6{}", &self.name[2..]) } else { self.name.to_owned() };
        format!("{name}-{end}")
    }

    /// Adds a chain that nothing leads to, and removes it.
    fn works(&self) -> Result<()> {
        self.restore(false, &[], "*nat\n:ISTIO_TRIAL - [0:0]\n-X ISTIO_TRIAL\nCOMMIT\n")
    }

    /// What `iptables-save` writes.
    pub(super) fn save(&self, ipv6: bool) -> Result<String> {
        run(&self.program(ipv6, "save"), &[], "", None)
    }

    /// Gives a text to `iptables-restore`, which leaves alone what is not in it.
    pub(super) fn restore(&self, ipv6: bool, words: &[&str], text: &str) -> Result<()> {
        // Who else changes the tables of old holds a lock; the newer ones take the flag and need none.
        let words: Vec<&str> = ["--noflush", "--wait=30"].iter().chain(words).copied().collect();
        run(&self.program(ipv6, "restore"), &words, text, self.lock.as_deref()).map(|_| ())
    }
}

/// Runs `nft`.
pub(super) fn nft(words: &[&str], text: &str) -> Result<String> {
    run("nft", words, text, None)
}

/// Whether there is a program of this name.
pub(super) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let places = env::split_paths(&path).chain(ALSO.iter().map(PathBuf::from));
    places.map(|place| place.join(program)).find(|file| file.is_file())
}

fn run(program: &str, words: &[&str], input: &str, lock: Option<&Path>) -> Result<String> {
    let file = find(program).ok_or_else(|| anyhow!("there is no program {program} on the PATH"))?;
    let mut command = Command::new(file);
    command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.env("LC_ALL", "C");
    if let Some(lock) = lock {
        command.env("XTABLES_LOCKFILE", lock);
    }
    let mut child = command.spawn().with_context(|| format!("starting {program}"))?;
    // A program that ends before it has read everything says why.
    let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
    let output = child.wait_with_output().with_context(|| format!("waiting for {program}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    bail!("{program} {}: {}", words.join(" "), said.trim())
}
