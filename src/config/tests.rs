//! Command lines, and what is understood of them.

use super::*;
use clap::Parser;

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    options: Discovery,
}

fn read(words: &[&str]) -> Result<Discovery, String> {
    let line = Line::try_parse_from([&["discovery"], words].concat()).map_err(|e| e.to_string())?;
    Ok(line.options)
}

fn port(address: &Address) -> Option<u16> {
    address.candidates().first().map(|(_, port)| *port)
}

#[test]
fn ports_are_those_of_istiod_unless_told_otherwise() {
    let options = read(&["--config-dir", "a"]).unwrap();
    let Listen { grpc_addr, http_addr, monitoring_addr, .. } = &options.listen;
    assert_eq!([grpc_addr, http_addr, monitoring_addr].map(port), [Some(15010), Some(8080), Some(15014)]);
}

#[test]
fn flags_of_istiod_are_understood_in_its_spelling() {
    let words = ["--configDir=a", "--configDir=b", "--grpcAddr=127.0.0.1:1", "--httpAddr", ":2", "--monitoringAddr="];
    let more = ["--clusterID=east", "-n", "mesh", "--keepaliveInterval=1m30s", "--log_output_level=default:debug"];
    let options = read(&[&words[..], &more, &["--log_as_json", "--shutdownDuration", "500ms"]].concat()).unwrap();
    assert_eq!(options.input.config_dirs, ["a", "b"].map(PathBuf::from));
    assert_eq!(options.listen.grpc_addr.candidates(), [("127.0.0.1", 1)]);
    assert_eq!(options.listen.http_addr.candidates(), [("::", 2), ("0.0.0.0", 2)]);
    assert_eq!(options.listen.monitoring_addr.candidates(), []);
    assert_eq!((options.input.place.cluster_id.as_str(), options.input.place.namespace.as_str()), ("east", "mesh"));
    assert_eq!(options.serving.keepalive_interval, Duration::from_secs(90));
    assert_eq!(options.serving.shutdown_duration, Duration::from_millis(500));
    assert_eq!((options.log.log_output_level.default, options.log.log_as_json), (Level::Debug, true));
}

#[test]
fn flags_of_istiod_without_a_meaning_are_accepted_and_told() {
    let options = read(&[
        "--config-dir=a",
        "--registries",
        "Mock",
        "--profile",
        "--secureGRPCAddr=:15012",
        "--log_caller",
        "ads",
    ]);
    let given: Vec<_> = options.unwrap().unused.iter().map(|(flag, _)| flag).collect();
    assert_eq!(given, ["registries", "profile", "log_caller"]);
    assert!(read(&["--config-dir=a", "--profile=false"]).is_ok());
}

#[test]
fn what_cannot_be_understood_names_its_flag() {
    let all: [(&[&str], &str); 5] = [
        (&["--config-dir=a", "--kubeconfig=b"], "--config-dir"),
        (&["--config-dir=a", "--grpc-addr=15010"], "--grpc-addr"),
        (&["--config-dir=a", "--http-addr=::1:80"], "--http-addr"),
        (&["--config-dir=a", "--debounce-after=100"], "--debounce-after"),
        (&["--config-dir=a", "--log-output-level=loud"], "--log-output-level"),
    ];
    for (words, flag) in all {
        let error = read(words).unwrap_err();
        assert!(error.contains(flag), "{error}");
    }
}

#[test]
fn addresses_are_read_and_written() {
    for text in ["", ":15010", "127.0.0.1:1", "[::1]:8080", "localhost:0"] {
        assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
    }
}

#[test]
fn levels_are_for_all_or_for_a_room() {
    let levels: Levels = "default:warn,ads:debug,wasm:info,store:none".parse().unwrap();
    assert_eq!(levels.default, Level::Warn);
    assert_eq!(levels.rooms, [("xds", Level::Debug), ("store", Level::None)].into());
    assert_eq!(levels.unknown, ["wasm"]);
    assert_eq!("debug".parse::<Levels>().unwrap().default, Level::Debug);
}
