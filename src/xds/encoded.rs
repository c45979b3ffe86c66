//! Responses as they are on the wire. What many streams are sent is encoded once, and all of them share its bytes.
//!
//! The resources of a response are cut into runs where their own content says so: streams that are sent nearly the same
//! have most runs in common, wherever they differ.

use super::{
    cache::lock,
    stream::{Response, Variant},
};
use crate::{
    pb::{
        envoy::service::discovery::v3::{DeltaDiscoveryResponse, DiscoveryResponse, Resource as ResourcePb},
        google::protobuf::Any,
    },
    translate::Resource,
};
use bytes::{BufMut, Bytes, BytesMut};
use crc32fast::Hasher;
use flate2::{Compress, Compression, FlushCompress};
use prost::Message as _;
use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{Arc, Mutex, OnceLock, Weak},
};
use tonic::Status;
use xxhash_rust::xxh3::xxh3_64;

/// A run ends after one in so many resources.
const RUN: u64 = 64;
/// What is smaller is sent in one piece.
const SMALL: usize = 4 << 10;
/// So many bytes are kept for those that are a little later than others.
const KEPT: usize = 1 << 20;
/// What gRPC has before each message: whether it is compressed, and its length.
pub(super) const PREFIX: usize = 5;
/// What is compressed is so at the least expense.
const LEVEL: Compression = Compression::fast();
/// What gzip has before everything: that it is gzip, in deflate, without a name or a time, by nobody in particular.
const GZIP: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
/// The last block of deflate, with nothing in it.
const END: [u8; 2] = [3, 0];
/// The number of `resources` in the responses of both variants.
const RESOURCES: u32 = 2;

/// A message of gRPC, in pieces.
pub(super) type Message = Vec<Bytes>;

/// How the messages of a stream are compressed (`grpc-encoding`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Encoding {
    /// Not at all.
    #[default]
    Identity,
    /// By gzip, but for small ones.
    Gzip,
}

/// Encodes responses.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    runs: HashMap<u64, Weak<Run>>,
    /// The newest ones.
    kept: VecDeque<Arc<Run>>,
    bytes: usize,
}

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Known").field("runs", &self.runs.len()).field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

/// Resources that follow one another, encoded.
struct Run {
    variant: Variant,
    resources: Box<[Arc<Resource>]>,
    bytes: Bytes,
    squeezed: OnceLock<Squeezed>,
}

/// Bytes as blocks of deflate, which neither know of others nor end the stream.
struct Squeezed {
    blocks: Vec<u8>,
    /// The checksum of the bytes.
    sum: Hasher,
}

impl Squeezed {
    fn of(bytes: &[u8]) -> Self {
        let mut sum = Hasher::new();
        sum.update(bytes);
        let mut deflate = Compress::new(LEVEL, false);
        let mut blocks = Vec::with_capacity(bytes.len() / 4 + 64);
        // A flush is done when it leaves room.
        while (deflate.total_in() as usize) < bytes.len() || blocks.len() == blocks.capacity() {
            blocks.reserve(bytes.len() / 8 + 64);
            let rest = &bytes[deflate.total_in() as usize..];
            if deflate.compress_vec(rest, &mut blocks, FlushCompress::Full).is_err() {
                unreachable!("compressing into memory cannot fail");
            }
        }
        blocks.shrink_to_fit();
        Self { blocks, sum }
    }
}

/// The blocks of a run, which lasts as long as they do.
struct LentBlocks(Arc<Run>);

impl AsRef<[u8]> for LentBlocks {
    fn as_ref(&self) -> &[u8] {
        self.0.squeezed.get().map_or(&[], |squeezed| &squeezed.blocks)
    }
}

impl Run {
    fn is(&self, variant: Variant, resources: &[Arc<Resource>]) -> bool {
        let same = |(a, b): (&Arc<Resource>, &Arc<Resource>)| Arc::ptr_eq(a, b);
        self.variant == variant
            && self.resources.len() == resources.len()
            && self.resources.iter().zip(resources).all(same)
    }
}

/// The bytes of a run, which lasts as long as they do.
struct Lent(Arc<Run>);

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.0.bytes
    }
}

impl Encoder {
    /// A response as a message.
    ///
    /// # Errors
    ///
    /// When it is larger than gRPC can say.
    pub(super) fn response(&self, variant: Variant, encoding: Encoding, response: Response) -> Result<Message, Status> {
        let Response { type_url, nonce, version, resources, removed } = response;
        let type_url = type_url.into_owned();
        let head = match variant {
            Variant::Sotw => {
                DiscoveryResponse { version_info: version, type_url, nonce, ..Default::default() }.encode_to_vec()
            }
            Variant::Delta => {
                let removed_resources = removed.iter().map(ToString::to_string).collect();
                let head = DeltaDiscoveryResponse {
                    system_version_info: version,
                    type_url,
                    nonce,
                    removed_resources,
                    ..Default::default()
                };
                head.encode_to_vec()
            }
        };
        let runs: Vec<Arc<Run>> = cut(&resources).map(|run| self.run(variant, run)).collect();
        let length = head.len() + runs.iter().map(|run| run.bytes.len()).sum::<usize>();
        let small = length < SMALL;
        if encoding == Encoding::Gzip && !small {
            return squeezed(&head, runs, length);
        }
        let mut first = prefixed(false, length, if small { length } else { head.len() })?;
        first.put_slice(&head);
        if small {
            runs.iter().for_each(|run| first.put_slice(&run.bytes));
            return Ok(vec![first.freeze()]);
        }
        let rest = runs.into_iter().map(|run| Bytes::from_owner(Lent(run)));
        Ok(std::iter::once(first.freeze()).chain(rest).collect())
    }

    fn run(&self, variant: Variant, resources: &[Arc<Resource>]) -> Arc<Run> {
        let print = print(variant, resources);
        let mut known = lock(&self.known);
        let there = known.runs.get(&print).and_then(Weak::upgrade).filter(|run| run.is(variant, resources));
        if let Some(run) = there {
            return run;
        }
        // With the lock, so that of many that come at once one encodes and the rest wait for it.
        let bytes = encoded(variant, resources);
        let run = Arc::new(Run { variant, resources: resources.into(), bytes, squeezed: OnceLock::new() });
        known.keep(print, &run);
        run
    }
}

impl Known {
    fn keep(&mut self, print: u64, run: &Arc<Run>) {
        super::cache::make_room(&mut self.runs);
        self.runs.insert(print, Arc::downgrade(run));
        self.bytes += run.bytes.len();
        self.kept.push_back(run.clone());
        while self.bytes > KEPT {
            let Some(oldest) = self.kept.pop_front() else { break };
            self.bytes -= oldest.bytes.len();
        }
    }
}

/// A message of gRPC that is encoded already.
///
/// # Errors
///
/// When it is larger than gRPC can say.
pub(super) fn message(encoded: &[u8]) -> Result<Message, Status> {
    let mut message = prefixed(false, encoded.len(), encoded.len())?;
    message.put_slice(encoded);
    Ok(vec![message.freeze()])
}

/// A message of so many bytes in gzip. What streams share is compressed once, too: a stream of deflate may be put together
/// from blocks that do not look back beyond their beginning.
fn squeezed(head: &[u8], runs: Vec<Arc<Run>>, length: usize) -> Result<Message, Status> {
    let Squeezed { blocks, mut sum } = Squeezed::of(head);
    let mut all = GZIP.len() + blocks.len();
    for run in &runs {
        let run = run.squeezed.get_or_init(|| Squeezed::of(&run.bytes));
        sum.combine(&run.sum);
        all += run.blocks.len();
    }
    let mut end = BytesMut::with_capacity(END.len() + 8);
    end.put_slice(&END);
    end.put_u32_le(sum.finalize());
    end.put_u32_le(length as u32);
    let mut first = prefixed(true, all + end.len(), GZIP.len() + blocks.len())?;
    first.put_slice(&GZIP);
    first.put_slice(&blocks);
    let rest = runs.into_iter().map(|run| Bytes::from_owner(LentBlocks(run)));
    Ok(std::iter::once(first.freeze()).chain(rest).chain([end.freeze()]).collect())
}

/// What a message of this length starts with, with room for so many bytes of it.
fn prefixed(compressed: bool, length: usize, room: usize) -> Result<BytesMut, Status> {
    let length = u32::try_from(length).map_err(|_| Status::resource_exhausted("a response of more than 4 GiB"))?;
    let mut start = BytesMut::with_capacity(PREFIX + room);
    start.put_u8(compressed.into());
    start.put_u32(length);
    Ok(start)
}

/// The runs that a list consists of.
fn cut(resources: &[Arc<Resource>]) -> impl Iterator<Item = &[Arc<Resource>]> {
    resources.split_inclusive(|resource| resource.version.is_multiple_of(RUN))
}

/// By what a run is found: which resources it is of. As long as it is there they are, at the same place.
fn print(variant: Variant, resources: &[Arc<Resource>]) -> u64 {
    let places = resources.iter().flat_map(|resource| (Arc::as_ptr(resource) as usize).to_ne_bytes());
    xxh3_64(&places.chain([variant as u8]).collect::<Vec<u8>>())
}

fn encoded(variant: Variant, resources: &[Arc<Resource>]) -> Bytes {
    let mut bytes = Vec::with_capacity(resources.iter().map(|r| r.body.len() + 2 * r.name.len() + 64).sum());
    for resource in resources {
        let any = Any { type_url: resource.kind.type_url().to_owned(), value: resource.body.clone() };
        match variant {
            Variant::Sotw => prost::encoding::message::encode(RESOURCES, &any, &mut bytes),
            Variant::Delta => {
                let resource = ResourcePb {
                    name: resource.name.to_string(),
                    version: resource.version_text(),
                    resource: Some(any),
                    ..Default::default()
                };
                prost::encoding::message::encode(RESOURCES, &resource, &mut bytes);
            }
        }
    }
    bytes.shrink_to_fit();
    bytes.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ResourceType;
    use std::io::Read as _;

    fn resources(count: usize) -> Vec<Arc<Resource>> {
        let resource = |n: usize| Resource::new(ResourceType::Cluster, format!("c-{n}"), vec![n as u8; 50], Vec::new());
        (0..count).map(|n| Arc::new(resource(n))).collect()
    }

    fn response(resources: &[Arc<Resource>]) -> Response {
        Response {
            type_url: ResourceType::Cluster.type_url().into(),
            nonce: "7".into(),
            version: "v".into(),
            resources: resources.into(),
            removed: vec!["gone".into()],
        }
    }

    /// The message without what gRPC has before it.
    fn joined(message: &Message) -> Vec<u8> {
        let all = message.concat();
        let length = u32::from_be_bytes(all[1..PREFIX].try_into().unwrap()) as usize;
        assert_eq!((all[0], length), (0, all.len() - PREFIX));
        all[PREFIX..].to_vec()
    }

    #[test]
    fn what_is_put_together_says_what_was_said_of_both_variants_and_sizes() {
        let encoder = Encoder::default();
        for count in [0, 1, 3, 500] {
            let resources = resources(count);
            let delta = joined(&encoder.response(Variant::Delta, Encoding::Identity, response(&resources)).unwrap());
            let delta = DeltaDiscoveryResponse::decode(&*delta).unwrap();
            assert_eq!((&*delta.nonce, &*delta.system_version_info), ("7", "v"));
            assert_eq!(
                (&*delta.type_url, delta.removed_resources),
                (ResourceType::Cluster.type_url(), vec!["gone".to_owned()])
            );
            let said =
                delta.resources.iter().map(|r| (r.name.clone(), r.version.clone(), r.resource.clone().unwrap().value));
            let meant = resources.iter().map(|r| (r.name.to_string(), r.version_text(), r.body.clone()));
            assert!(said.eq(meant));
            let whole = joined(&encoder.response(Variant::Sotw, Encoding::Identity, response(&resources)).unwrap());
            let whole = DiscoveryResponse::decode(&*whole).unwrap();
            assert_eq!((&*whole.nonce, &*whole.version_info), ("7", "v"));
            assert!(whole.resources.iter().map(|any| &any.value).eq(resources.iter().map(|r| &r.body)));
        }
    }

    #[test]
    fn what_is_compressed_is_one_stream_of_gzip_and_shares_its_runs() {
        let encoder = Encoder::default();
        let mut list = resources(3_000);
        let said = |message: &Message| {
            let all = message.concat();
            assert_eq!(
                (all[0], all.len() - PREFIX),
                (1, u32::from_be_bytes(all[1..PREFIX].try_into().unwrap()) as usize)
            );
            let mut plain = Vec::new();
            // Of one member alone: what is behind it is not looked at, and nothing is.
            let mut reader = flate2::bufread::GzDecoder::new(&all[PREFIX..]);
            reader.read_to_end(&mut plain).expect("gzip, with the right sum and length");
            assert!(reader.into_inner().is_empty());
            plain
        };
        let both = |list: &[Arc<Resource>]| {
            let plain = joined(&encoder.response(Variant::Delta, Encoding::Identity, response(list)).unwrap());
            let small = encoder.response(Variant::Delta, Encoding::Gzip, response(list)).unwrap();
            assert_eq!(said(&small), plain);
            assert!(small.iter().map(Bytes::len).sum::<usize>() < plain.len() / 2);
            small.iter().map(|piece| piece.as_ptr()).collect::<Vec<_>>()
        };
        let one = both(&list);
        list.push(Arc::new(Resource::new(ResourceType::Cluster, "own", vec![1; 100_000], Vec::new())));
        let own = both(&list).into_iter().filter(|place| !one.contains(place)).count();
        assert!(own <= 3, "the head, the end, and the run that the resource is in: {own}");
        let few = encoder.response(Variant::Delta, Encoding::Gzip, response(&resources(2))).unwrap();
        assert!(DeltaDiscoveryResponse::decode(&*joined(&few)).is_ok(), "what is small is as it is");
    }

    #[test]
    fn lists_that_differ_in_one_resource_share_the_rest() {
        let encoder = Encoder::default();
        let mut list = resources(1_000);
        let one = encoder.response(Variant::Delta, Encoding::Identity, response(&list)).unwrap();
        list.insert(500, Arc::new(Resource::new(ResourceType::Cluster, "own", vec![1], Vec::new())));
        let other = encoder.response(Variant::Delta, Encoding::Identity, response(&list)).unwrap();
        let places = |message: &Message| -> Vec<_> { message.iter().map(|piece| piece.as_ptr()).collect() };
        let (one, other) = (places(&one), places(&other));
        assert!(one.len() > 5, "{}", one.len());
        let own = other.iter().filter(|place| !one.contains(place)).count();
        assert!(own <= 3, "the head, and the run that the resource is in: {own}");
    }

    #[test]
    fn of_what_was_sent_a_little_is_kept() {
        let encoder = Encoder::default();
        for n in 0..100 {
            let resources: Vec<_> = resources(1_000).split_off(n);
            encoder.response(Variant::Delta, Encoding::Identity, response(&resources)).unwrap();
        }
        let known = lock(&encoder.known);
        assert!(known.bytes <= KEPT);
        assert_eq!(known.bytes, known.kept.iter().map(|run| run.bytes.len()).sum::<usize>());
    }
}
