//! Heartbeat: a member is alive, and hears whether it has to rejoin. Pure.

use super::classic::{Context, Group};
use super::command::Heartbeat;
use super::error::GroupError;
use super::state::GroupState;

impl Group {
    /// Takes a member's sign of life.
    ///
    /// # Errors
    /// REBALANCE_IN_PROGRESS only while members join: one that has joined and rejoined at such an
    /// answer would never come to sync.
    pub fn heartbeat(
        &mut self,
        request: &Heartbeat,
        cx: &mut Context<'_>,
    ) -> Result<(), GroupError> {
        self.check_member(&request.member_id, request.instance_id.as_ref())?;
        if request.generation != self.generation {
            return Err(GroupError::IllegalGeneration);
        }
        self.arm_session(&request.member_id, cx);
        match self.state {
            GroupState::PreparingRebalance => Err(GroupError::RebalanceInProgress),
            _ => Ok(()),
        }
    }
}
