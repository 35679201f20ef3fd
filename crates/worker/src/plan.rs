//! A `Start` that makes sense: every text parsed, every number within its limit.
//!
//! Pure. Errors name the part and never its value where it could be a secret.

use std::time::Duration;

use container::{ImageDefaults, ProcessError, Resources};
use credential::SecretString;
use image_store::{Touch, unpack_touches};
use reference::{Digest, Reference, Registry};
use worker_protocol as message;
use worker_protocol::MAX_PAYLOAD_BYTES;

use crate::runner::messages::Environment;

/// A worker's own patience, for what says nothing or would wait for days.
const MAX_START_TIMEOUT: Duration = Duration::from_hours(1);

/// Names to try: every Python there has been, and more.
const MAX_INTERPRETERS: usize = 32;

/// An archive as long as all that may come out of it.
const MAX_CODE_BYTES: u64 = 64 << 20;

/// Each call at a time is a thread in the container.
const MAX_CONCURRENCY: u32 = 1024;

/// What a container may take of processors that nobody else wants, however little it reserves: to
/// start is more work than most functions do.
const LEAST_CPU_LIMIT: f64 = 1.0;

/// Names that are shown and kept.
const MAX_NAME_BYTES: usize = 256;

/// A container that can be started.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) name: String,
    pub(crate) workspace: String,
    pub(crate) image: Image,
    /// Never empty.
    pub(crate) interpreters: Vec<String>,
    pub(crate) resources: Resources,
    /// The length of its code's archive, if it has one.
    pub(crate) code_bytes: Option<u64>,
    /// Without, it is a probe: it ends when it has said which Python it has.
    pub(crate) setup: Option<Setup>,
    pub(crate) start_timeout: Duration,
    /// What starts like it have read first.
    pub(crate) foretold: Vec<Touch>,
}

#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) reference: String,
    pub(crate) registry: Registry,
    pub(crate) repository: String,
    pub(crate) origin: String,
    pub(crate) plain_http: bool,
    pub(crate) ca_pem: Option<Vec<u8>>,
    pub(crate) defaults: ImageDefaults,
    /// `NAME=value`, over those of the defaults.
    pub(crate) environment: Vec<String>,
    /// Lowest first.
    pub(crate) layers: Vec<Layer>,
    pub(crate) has_shared_cache: bool,
}

#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) digest: Digest,
    pub(crate) index_root: [u8; 32],
}

#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) handler: String,
    pub(crate) environment: Environment,
    pub(crate) concurrency: u32,
    pub(crate) result_limit_bytes: usize,
}

/// What makes no sense.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlanError {
    #[error("it has no {0}")]
    Missing(&'static str),
    #[error("it has no usable {0}")]
    Unusable(&'static str),
    #[error(transparent)]
    Image(#[from] ProcessError),
}

impl Plan {
    pub(crate) fn parse(start: message::Start) -> Result<Self, PlanError> {
        let cpus = (start.cpu_millicores > 0).then(|| f64::from(start.cpu_millicores) / 1000.0);
        let resources = Resources {
            memory_bytes: Some(start.memory_bytes).filter(|bytes| *bytes > 0),
            cpus: cpus.map(|cpus| cpus.max(LEAST_CPU_LIMIT)),
            reserved_cpus: cpus,
            ..Resources::default()
        };
        let code_bytes = start.code.map(|code| code.size_bytes);
        if code_bytes.is_some_and(|bytes| bytes > MAX_CODE_BYTES) {
            return Err(PlanError::Unusable("code"));
        }
        let timeout = Duration::from_millis(start.start_timeout_ms);
        let is_stated = timeout > Duration::ZERO && timeout < MAX_START_TIMEOUT;
        let start_timeout = if is_stated {
            timeout
        } else {
            MAX_START_TIMEOUT
        };
        Ok(Self {
            name: named(start.name, "name")?,
            workspace: named(start.workspace, "workspace")?,
            image: Image::parse(start.image.ok_or(PlanError::Missing("image"))?)?,
            interpreters: interpreters(start.interpreters)?,
            resources,
            code_bytes,
            setup: start.setup.map(Setup::parse).transpose()?,
            start_timeout,
            foretold: foretold(start.foretold),
        })
    }
}

/// A forecast that makes no sense is none: nothing but time depends on it.
fn foretold(trace: Option<message::Trace>) -> Vec<Touch> {
    let touches = trace.and_then(|trace| unpack_touches(&trace.touches));
    touches.unwrap_or_default()
}

fn named(text: String, what: &'static str) -> Result<String, PlanError> {
    match text.len() {
        0 => Err(PlanError::Missing(what)),
        1..=MAX_NAME_BYTES => Ok(text),
        _ => Err(PlanError::Unusable(what)),
    }
}

fn interpreters(names: Vec<String>) -> Result<Vec<String>, PlanError> {
    if names.is_empty() {
        return Err(PlanError::Missing("interpreters"));
    }
    let is_usable = |name: &String| !name.is_empty() && !name.contains('\0');
    if names.len() > MAX_INTERPRETERS || !names.iter().all(is_usable) {
        return Err(PlanError::Unusable("interpreters"));
    }
    Ok(names)
}

impl Image {
    pub(crate) fn parse(image: message::Image) -> Result<Self, PlanError> {
        let registry = Registry::parse(&image.registry);
        let registry = registry.map_err(|_| PlanError::Unusable("registry"))?;
        let named = Reference::parse(&format!("{registry}/{}", image.repository));
        let is_repository = named.is_ok_and(|named| named.repository() == image.repository);
        if !is_repository {
            return Err(PlanError::Unusable("repository"));
        }
        if image.layers.is_empty() {
            return Err(PlanError::Missing("layers"));
        }
        let layers = image.layers.iter().map(Layer::parse);
        Ok(Self {
            reference: image.reference,
            registry,
            repository: image.repository,
            origin: image.origin,
            plain_http: image.plain_http,
            ca_pem: image.ca_pem.map(Vec::from),
            defaults: ImageDefaults::from_config(&image.config)?,
            environment: image.environment,
            layers: layers.collect::<Result<_, _>>()?,
            has_shared_cache: image.has_shared_cache,
        })
    }
}

impl Layer {
    fn parse(layer: &message::Layer) -> Result<Self, PlanError> {
        let digest = Digest::parse(&layer.digest).map_err(|_| PlanError::Unusable("layer"))?;
        let root = <[u8; 32]>::try_from(&*layer.index_root);
        let index_root = root.map_err(|_| PlanError::Unusable("index root"))?;
        Ok(Self { digest, index_root })
    }
}

impl Setup {
    fn parse(setup: message::Setup) -> Result<Self, PlanError> {
        if !(1..=MAX_CONCURRENCY).contains(&setup.concurrency) {
            return Err(PlanError::Unusable("concurrency"));
        }
        let limit = usize::try_from(setup.result_limit_bytes).unwrap_or(usize::MAX);
        let secret = |(name, value)| (name, SecretString::from(value));
        Ok(Self {
            handler: setup.handler,
            environment: Environment(setup.environment.into_iter().map(secret).collect()),
            concurrency: setup.concurrency,
            result_limit_bytes: limit.min(MAX_PAYLOAD_BYTES),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::starts::{probe, with_setup};

    #[test]
    fn a_start_that_makes_sense() {
        let plan = Plan::parse(with_setup("app:main", 1)).unwrap();
        assert_eq!(plan.interpreters, ["python3"]);
        assert_eq!(plan.image.registry.to_string(), "registry.test");
        assert_eq!(plan.resources, Resources::default());
        assert!(plan.setup.is_some() && plan.code_bytes.is_none());
        let limited = message::Start {
            cpu_millicores: 1500,
            memory_bytes: 64 << 20,
            ..probe()
        };
        let plan = Plan::parse(limited).unwrap();
        assert_eq!(plan.resources.cpus, Some(1.5));
        assert_eq!(plan.resources.reserved_cpus, Some(1.5));
        assert_eq!(plan.resources.memory_bytes, Some(64 << 20));
        let little = message::Start {
            cpu_millicores: 125,
            ..probe()
        };
        let plan = Plan::parse(little).unwrap();
        assert_eq!(plan.resources.cpus, Some(LEAST_CPU_LIMIT));
        assert_eq!(plan.resources.reserved_cpus, Some(0.125));
        assert!(plan.setup.is_none());
    }

    #[test]
    fn a_forecast_without_sense_is_none() {
        let touch = Touch {
            layer: 0,
            span: 300,
            at_ms: 5,
        };
        let packed = image_store::pack_touches(&[touch]);
        for (touches, expected) in [
            (packed.clone(), vec![touch]),
            (packed[1..].to_vec(), vec![]),
            (vec![], vec![]),
        ] {
            let start = message::Start {
                foretold: Some(message::Trace {
                    touches: touches.into(),
                }),
                ..probe()
            };
            assert_eq!(Plan::parse(start).unwrap().foretold, expected);
        }
        assert_eq!(Plan::parse(probe()).unwrap().foretold, []);
    }

    #[test]
    fn patience_has_an_end() {
        for (timeout_ms, expected) in [
            (1, Duration::from_millis(1)),
            (0, MAX_START_TIMEOUT),
            (u64::MAX, MAX_START_TIMEOUT),
        ] {
            let start = message::Start {
                start_timeout_ms: timeout_ms,
                ..probe()
            };
            assert_eq!(Plan::parse(start).unwrap().start_timeout, expected);
        }
    }

    #[test]
    fn starts_that_make_no_sense() {
        type Spoil = fn(&mut message::Start);
        fn image(start: &mut message::Start) -> &mut message::Image {
            start.image.as_mut().unwrap()
        }
        let table: &[(&str, Spoil)] = &[
            ("it has no name", |start| start.name.clear()),
            ("it has no usable name", |start| {
                start.name = "x".repeat(300);
            }),
            ("it has no workspace", |start| start.workspace.clear()),
            ("it has no image", |start| start.image = None),
            ("it has no usable registry", |start| {
                image(start).registry = "a b".to_owned();
            }),
            ("it has no usable repository", |start| {
                image(start).repository = "a:1".to_owned();
            }),
            ("it has no usable repository", |start| {
                image(start).repository.clear();
            }),
            ("it has no layers", |start| image(start).layers.clear()),
            ("it has no usable layer", |start| {
                image(start).layers[0].digest.clear();
            }),
            ("it has no usable index root", |start| {
                image(start).layers[0].index_root = vec![0; 31].into();
            }),
            ("image configuration is not valid", |start| {
                image(start).config = "[".into();
            }),
            ("it has no interpreters", |start| start.interpreters.clear()),
            ("it has no usable interpreters", |start| {
                start.interpreters[0].clear();
            }),
            ("it has no usable code", |start| {
                start.code = Some(message::Code {
                    size_bytes: u64::MAX,
                });
            }),
            ("it has no usable concurrency", |start| {
                start.setup.as_mut().unwrap().concurrency = 0;
            }),
        ];
        for (expected, spoil) in table {
            let mut start = with_setup("app:main", 1);
            spoil(&mut start);
            let error = Plan::parse(start).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
