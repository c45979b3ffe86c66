//! What a client sends on a stream, message by message. Nothing is held between messages: a stream lasts for as long as
//! its proxy, and asks for thousands of names once.

use super::encoded::{Encoding, PREFIX};
use bytes::BytesMut;
use flate2::bufread::GzDecoder;
use http_body_util::BodyExt as _;
use prost::Message;
use std::{io::Read as _, marker::PhantomData};
use tonic::{Status, body::Body};

/// The messages of a stream.
pub(super) struct Requests<R> {
    body: Body,
    /// What has come of the next message, and of those behind it.
    read: BytesMut,
    /// The largest message, in bytes.
    max: usize,
    /// Whether messages may be in gzip.
    gzip: bool,
    kind: PhantomData<fn() -> R>,
}

impl<R: Message + Default> Requests<R> {
    /// The messages of a body, none of them larger than `max` bytes, and some of them maybe in this encoding.
    pub(super) fn new(body: Body, max: usize, encoding: Encoding) -> Self {
        Self { body, read: BytesMut::new(), max, gzip: encoding == Encoding::Gzip, kind: PhantomData }
    }

    /// The next message; `None` where the client has no more. What has come is not lost when this is not waited for.
    ///
    /// # Errors
    ///
    /// When the stream breaks, or a message is too large or none.
    pub(super) async fn message(&mut self) -> Result<Option<R>, Status> {
        loop {
            if let Some(message) = self.whole()? {
                return Ok(Some(message));
            }
            match self.more().await? {
                true => {}
                false if self.read.is_empty() => return Ok(None),
                false => return Err(Status::internal("the stream ends in the middle of a message")),
            }
        }
    }

    /// Waits until something of a message has come, or no more will.
    ///
    /// # Errors
    ///
    /// When the stream breaks.
    pub(super) async fn begun(&mut self) -> Result<(), Status> {
        while self.read.is_empty() && self.more().await? {}
        Ok(())
    }

    /// Reads what comes next; whether there was more.
    async fn more(&mut self) -> Result<bool, Status> {
        let Some(frame) = self.body.frame().await else { return Ok(false) };
        if let Ok(data) = frame?.into_data() {
            self.read.extend_from_slice(&data);
        }
        Ok(true)
    }

    /// The message that has come whole.
    fn whole(&mut self) -> Result<Option<R>, Status> {
        let Some((&[compressed, ref length @ ..], rest)) = self.read.split_first_chunk::<PREFIX>() else {
            return Ok(None);
        };
        if compressed != 0 && !self.gzip {
            return Err(Status::unimplemented("messages may be compressed by gzip alone"));
        }
        let length = u32::from_be_bytes(*length) as usize;
        if length > self.max {
            return Err(self.too_large(length));
        }
        let Some(message) = rest.get(..length) else { return Ok(None) };
        let mut plain = Vec::new();
        let message = match compressed {
            0 => message,
            _ => {
                let mut reader = GzDecoder::new(message).take(self.max as u64 + 1);
                reader.read_to_end(&mut plain).map_err(|error| Status::internal(format!("no gzip: {error}")))?;
                if plain.len() > self.max {
                    return Err(self.too_large(plain.len()));
                }
                &plain
            }
        };
        // From a slice: what is kept of a message does not keep the rest.
        let message = R::decode(message).map_err(|error| Status::internal(error.to_string()))?;
        match rest.len() == length {
            true => self.read = BytesMut::new(),
            false => drop(self.read.split_to(PREFIX + length)),
        }
        Ok(Some(message))
    }

    fn too_large(&self, length: usize) -> Status {
        Status::out_of_range(format!("a message of {length} bytes or more is too large, the limit is {}", self.max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::envoy::service::discovery::v3::DiscoveryRequest;
    use bytes::Bytes;
    use flate2::{Compression, write::GzEncoder};
    use http_body_util::StreamBody;
    use hyper::body::Frame;
    use std::{convert::Infallible, io::Write as _};
    use tonic::Code;

    const MAX: usize = 1000;

    fn request(name: &str) -> DiscoveryRequest {
        DiscoveryRequest { resource_names: vec![name.to_owned()], ..Default::default() }
    }

    fn framed(name: &str) -> Vec<u8> {
        let message = request(name).encode_to_vec();
        let length = u32::try_from(message.len()).expect("a small message").to_be_bytes();
        [&[0][..], &length, &message].concat()
    }

    /// The names that come of these frames, and how the stream ends.
    async fn names(frames: &[&[u8]]) -> (Vec<String>, Code) {
        names_in(Encoding::Gzip, frames).await
    }

    async fn names_in(encoding: Encoding, frames: &[&[u8]]) -> (Vec<String>, Code) {
        let frames: Vec<_> =
            frames.iter().map(|f| Ok::<_, Infallible>(Frame::data(Bytes::copy_from_slice(f)))).collect();
        let mut requests =
            Requests::<DiscoveryRequest>::new(Body::new(StreamBody::new(tokio_stream::iter(frames))), MAX, encoding);
        let mut names = Vec::new();
        loop {
            match requests.message().await {
                Ok(Some(message)) => names.extend(message.resource_names),
                Ok(None) => return (names, Code::Ok),
                Err(status) => return (names, status.code()),
            }
        }
    }

    #[tokio::test]
    async fn messages_come_however_they_are_cut() {
        let both = [framed("a"), framed(&"b".repeat(900))].concat();
        let expected = (vec!["a".to_owned(), "b".repeat(900)], Code::Ok);
        assert_eq!(names(&[&both]).await, expected);
        for at in 0..both.len() {
            assert_eq!(names(&[&both[..at], &both[at..]]).await, expected, "cut at {at}");
        }
        let bytes: Vec<&[u8]> = both.chunks(1).collect();
        assert_eq!(names(&bytes).await, expected);
    }

    fn compressed(name: &str) -> Vec<u8> {
        let mut writer = GzEncoder::new(Vec::new(), Compression::fast());
        writer.write_all(&request(name).encode_to_vec()).expect("memory");
        let message = writer.finish().expect("memory");
        let length = u32::try_from(message.len()).expect("a small message").to_be_bytes();
        [&[1][..], &length, &message].concat()
    }

    #[tokio::test]
    async fn some_messages_may_be_compressed() {
        let all = [framed("a"), compressed(&"b".repeat(900)), framed("c")].concat();
        assert_eq!(names(&[&all]).await, (vec!["a".to_owned(), "b".repeat(900), "c".to_owned()], Code::Ok));
    }

    #[tokio::test]
    async fn what_is_no_message_ends_the_stream_behind_those_that_are() {
        let good = framed("a");
        let after = async |bad: &[u8]| names(&[&[&good[..], bad].concat()]).await;
        let came = vec!["a".to_owned()];
        let unsaid = [&good[..], &[1, 0, 0, 0, 0]].concat();
        let unsaid = names_in(Encoding::Identity, &[&unsaid]).await;
        assert_eq!(unsaid, (came.clone(), Code::Unimplemented), "compressed, and not said to be");
        assert_eq!(after(&good[..good.len() - 1]).await, (came.clone(), Code::Internal), "cut off");
        assert_eq!(after(&[0, 0, 0]).await, (came.clone(), Code::Internal), "cut off in the prefix");
        assert_eq!(after(&framed(&"x".repeat(MAX))).await, (came.clone(), Code::OutOfRange), "too large");
        assert_eq!(after(&[1, 0, 0, 0, 0]).await, (came.clone(), Code::Internal), "no gzip");
        assert_eq!(after(&compressed(&"x".repeat(100 * MAX))).await, (came.clone(), Code::OutOfRange), "a bomb");
        assert_eq!(after(&[0, 0, 0, 0, 1, 0xff]).await, (came, Code::Internal), "not of the type");
    }

    #[tokio::test]
    async fn nothing_is_held_between_messages() {
        let frames = [Ok::<_, Infallible>(Frame::data(Bytes::from(framed(&"b".repeat(900)))))];
        let mut requests = Requests::<DiscoveryRequest>::new(
            Body::new(StreamBody::new(tokio_stream::iter(frames))),
            MAX,
            Encoding::Gzip,
        );
        assert!(requests.message().await.expect("a message").is_some());
        assert_eq!(requests.read.capacity(), 0);
    }
}
