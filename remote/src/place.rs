//! Which bucket, and how to reach it.

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::client::ClientConfigKey;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::{BackoffConfig, ClientOptions, RetryConfig};
use qapipe_cache::{Depot, RemoteError};
use url::Url;

use crate::bucket::{Bucket, Service};
use crate::trouble::without_secrets;

/// What the address of a bucket may begin with.
pub const SCHEMES: [&str; 3] = ["s3", "gs", "az"];

/// What there is to say of a bucket besides its address. The environment wins (`AWS_ENDPOINT_URL`, `AWS_REGION`, …), and credentials come from
/// there alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Where the service is, if not where its owner has it.
    pub endpoint: Option<String>,
    /// Region of the bucket.
    pub region: Option<String>,
}

/// A bucket by its address: `s3://BUCKET/PREFIX`, `gs://…`, `az://CONTAINER/PREFIX`. Asks nothing yet.
///
/// # Errors
/// When the address is none.
pub fn open(address: &str, place: &Place) -> Result<Box<dyn Depot>, RemoteError> {
    let failed = |what: String| RemoteError::Failed { remote: without_secrets(address), what };
    let url = Url::parse(address).map_err(|error| failed(format!("its address is none: {error}")))?;
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
        return Err(failed("an address holds no credentials and no options: those come from the environment".into()));
    }
    let Some(name) = url.host_str().filter(|name| !name.is_empty()) else { return Err(failed("its address names no bucket".into())) };
    let store = match url.scheme() {
        "s3" => s3(name, place),
        "gs" => gs(name, place),
        "az" => az(name, place),
        other => return Err(failed(format!("`{other}` is no sort of remote: a folder, s3, gs or az"))),
    };
    // What the environment lacks is told by the first request: a run goes on without the remote then.
    let store = store.map_err(|error| without_secrets(&error.to_string()));
    Ok(Box::new(Bucket::new(address.trim_end_matches('/').to_owned(), store, url.path())))
}

fn s3(bucket: &str, place: &Place) -> object_store::Result<Arc<dyn Service>> {
    let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket).with_retry(retry());
    if let (None, Some(endpoint)) = (builder.get_config_value(&AmazonS3ConfigKey::Endpoint), &place.endpoint) {
        builder = builder.with_endpoint(endpoint);
    }
    if let (None, Some(region)) = (builder.get_config_value(&AmazonS3ConfigKey::Region), &place.region) {
        builder = builder.with_region(region);
    }
    let plain = builder.get_config_value(&AmazonS3ConfigKey::Endpoint).is_some_and(|endpoint| endpoint.starts_with("http://"));
    Ok(Arc::new(builder.with_client_options(client(plain)).build()?))
}

fn gs(bucket: &str, place: &Place) -> object_store::Result<Arc<dyn Service>> {
    let mut builder = GoogleCloudStorageBuilder::from_env().with_bucket_name(bucket).with_retry(retry());
    if let Some(endpoint) = &place.endpoint {
        builder = builder.with_base_url(endpoint);
    }
    let plain = place.endpoint.as_deref().is_some_and(|endpoint| endpoint.starts_with("http://"));
    Ok(Arc::new(builder.with_client_options(client(plain)).build()?))
}

fn az(container: &str, place: &Place) -> object_store::Result<Arc<dyn Service>> {
    let mut builder = MicrosoftAzureBuilder::from_env().with_container_name(container).with_retry(retry());
    if let (None, Some(endpoint)) = (builder.get_config_value(&AzureConfigKey::Endpoint), &place.endpoint) {
        builder = builder.with_endpoint(endpoint.clone());
    }
    let plain = builder.get_config_value(&AzureConfigKey::Endpoint).is_some_and(|endpoint| endpoint.starts_with("http://"));
    Ok(Arc::new(builder.with_client_options(client(plain)).build()?))
}

/// Without TLS only where the user's own address says so.
fn client(plain: bool) -> ClientOptions {
    let agent = concat!("qapipe/", env!("CARGO_PKG_VERSION"));
    ClientOptions::new()
        .with_allow_http(plain)
        .with_connect_timeout(Duration::from_secs(5))
        .with_timeout(Duration::from_secs(120))
        .with_config(ClientConfigKey::UserAgent, agent)
}

/// A remote that is away should be found so soon: what it has can be computed.
fn retry() -> RetryConfig {
    let backoff = BackoffConfig { init_backoff: Duration::from_millis(100), max_backoff: Duration::from_secs(3), base: 2.0 };
    RetryConfig { backoff, max_retries: 4, retry_timeout: Duration::from_secs(20) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_the_environment_lacks_is_told_when_it_is_needed() {
        if std::env::vars_os().any(|(name, _)| name.to_string_lossy().starts_with("AZURE_")) {
            return eprintln!("skipped: the environment names an account");
        }
        let depot = open("az://container/x", &Place::default()).unwrap();
        let error = depot.get("VERSION").unwrap_err();
        assert!(matches!(&error, RemoteError::Denied { .. }) && error.to_string().contains("Account must be specified"), "{error}");
    }

    #[test]
    fn an_address_names_a_bucket_and_nothing_secret() {
        let opened = |address: &str| open(address, &Place::default()).map(|depot| depot.url().to_owned());
        assert_eq!(opened("s3://bucket/some/prefix/").unwrap(), "s3://bucket/some/prefix");
        for (address, told) in [
            ("s3://", "names no bucket"),
            ("ftp://host/x", "`ftp` is no sort of remote"),
            ("s3://AKIAKEY:topsecret@bucket/x", "holds no credentials"),
            ("az://container/x?sig=topsecret", "holds no credentials"),
        ] {
            let error = opened(address).unwrap_err().to_string();
            assert!(error.contains(told) && !error.contains("topsecret"), "{error}");
        }
    }
}
