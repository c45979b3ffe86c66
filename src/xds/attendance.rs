//! Who is told which nodes come and go, and how they say they are.

use crate::{model::Node, peer::Caller};
use serde_json::Value;
use std::fmt;
use tonic::{Status, async_trait};

/// Is told of nodes that come.
#[async_trait]
pub trait Attendance: fmt::Debug + Send + Sync {
    /// A node has come, with this metadata, which has proved to be `caller` where there is one. Its stay, where one is
    /// kept, ends when that is dropped. A node that is refused is not served.
    async fn arrive(
        &self,
        node: &Node,
        metadata: &Value,
        caller: Option<&Caller>,
    ) -> Result<Option<Box<dyn Stay>>, Status>;
}

/// A node that is there.
pub trait Stay: fmt::Debug + Send + Sync {
    /// The node says that it is well, or what ails it.
    fn says(&self, health: Result<(), String>);
}
