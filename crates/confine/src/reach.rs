//! What the process can reach beyond its descriptors, by Landlock.
//!
//! Kernels before 5.13 do not have it, and later ones learn more each year: what the kernel knows
//! of the list is enforced.

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus, Scope, path_beneath_rules,
};

use crate::ConfineError;

/// The newest rules that are asked for.
const NEWEST: ABI = ABI::V6;

/// Whether this kernel has Landlock, in whatever version.
pub fn has_landlock() -> bool {
    Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(ABI::V1))
        .and_then(Ruleset::create)
        .is_ok()
}

/// Forbids every file but the readable ones, listening, and signals to others; connecting too,
/// unless it is what the process is for. False where the kernel has no Landlock.
pub(crate) fn restrict(readable: &[&str], may_connect: bool) -> Result<bool, ConfineError> {
    let tcp = if may_connect {
        AccessNet::BindTcp.into()
    } else {
        AccessNet::from_all(NEWEST)
    };
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))
        .and_then(|rules| rules.handle_access(tcp))
        .and_then(|rules| rules.scope(Scope::from_all(NEWEST)))
        .and_then(Ruleset::create)
        .and_then(|rules| {
            let reading = AccessFs::ReadFile | AccessFs::ReadDir;
            rules.add_rules(path_beneath_rules(readable, reading))
        })
        .and_then(landlock::RulesetCreated::restrict_self)
        .map_err(ConfineError::Landlock)?;
    Ok(status.ruleset != RulesetStatus::NotEnforced)
}
