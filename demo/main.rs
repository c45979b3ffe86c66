//! The demo: a small shop whose pods have real Envoys, which mainsheet configures, and what requests show there.
//!
//! It checks what it prints. `KEEP=1` leaves everything up.

#[path = "../tests/mesh/harness/harness.rs"]
#[allow(dead_code, unused_imports, reason = "the tests use the rest")]
mod harness;
mod shop;
mod show;
mod urls;

use harness::{may_make_namespaces, run};
use std::{net::TcpListener, process::ExitCode};

fn main() -> ExitCode {
    let keep = std::env::var("KEEP").is_ok_and(|keep| !keep.is_empty() && keep != "0");
    let captured = may_make_namespaces();
    if captured {
        println!("Each pod has a network namespace of its own; iptables bring its traffic to its Envoy, and an agent");
        println!("beside that gets it a certificate for a token of its service account.");
    } else {
        println!("This user may not make network namespaces (root may), so the shop runs on loopback addresses:");
        println!("only productpage has an Envoy, and it sends to that Envoy's listeners by itself.");
        if let Err(error) = TcpListener::bind(("127.0.0.1", shop::PORT)) {
            println!("Port {} of 127.0.0.1, which that takes, is not free ({error}): is another demo up?", shop::PORT);
            return ExitCode::FAILURE;
        }
    }
    println!("Starting mainsheet, the workloads and their Envoys …");
    let world = shop::start(captured);
    let failed = show::all(&world, captured);
    let urls = urls::Urls::open(&world);
    urls.print(keep);
    if keep {
        println!("\nEverything stays up until:  kill {}", run().keep());
        // What is forgotten is not ended.
        std::mem::forget((world, urls));
    }
    if failed > 0 {
        println!("\n{failed} of the above did not come out as they should.");
    }
    ExitCode::from(u8::from(failed > 0))
}
