//! A registry that demands a login, an image in it, and a home that is logged in.

use std::time::Duration;

use e2e::Home;
use registry_sim::ImageBuilder;
use registry_sim::debian::DebianRegistry;
use tokio::runtime::Runtime;

pub(crate) const USER: &str = "alice";
pub(crate) const PASSWORD: &str = "correct horse battery staple";

/// A started registry with one image, and a home that knows nothing of it yet.
pub(crate) struct Stage {
    pub(crate) home: Home,
    pub(crate) registry: DebianRegistry,
    pub(crate) image: String,
    /// Where the token issuer lives, when there is one.
    _runtime: Runtime,
}

impl Stage {
    /// Puts the image into a new registry as `acme/fn:v1`.
    pub(crate) fn new(image: ImageBuilder) -> Self {
        Self::with(image, async { DebianRegistry::htpasswd(USER, PASSWORD) })
    }

    /// The same, logged in.
    pub(crate) fn logged_in(image: ImageBuilder) -> Self {
        Self::new(image).log_in()
    }

    /// Logged in to a registry that takes tokens, each of which lives for `life`.
    pub(crate) fn with_tokens(image: ImageBuilder, life: Duration) -> Self {
        let stage = Self::with(image, DebianRegistry::token(USER, PASSWORD));
        stage
            .registry
            .issuer()
            .expect("a token registry has an issuer")
            .set_life(life);
        stage.log_in()
    }

    fn with(image: ImageBuilder, registry: impl Future<Output = DebianRegistry>) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let registry = runtime.block_on(registry);
        runtime.block_on(registry.push("acme/fn", "v1", &image.build()));
        let image = format!("{}/acme/fn:v1", registry.host());
        Self {
            home: Home::new(),
            registry,
            image,
            _runtime: runtime,
        }
    }

    fn log_in(self) -> Self {
        self.home.login(&self.scope(), USER, PASSWORD).ok();
        self
    }

    /// The registry scope that the tests log in to.
    pub(crate) fn scope(&self) -> String {
        format!("{}/acme", self.registry.host())
    }
}

/// Bytes that no compressor shrinks, different for every seed.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64 ^ (seed + 1);
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..length).map(next).collect()
}
