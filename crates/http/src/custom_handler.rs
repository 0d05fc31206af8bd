//! The server as an Azure Functions custom handler: the Functions host starts this program, says by a variable on which
//! port it expects it, and passes HTTP requests on with the path that they came with. Must never be used where the
//! host is not in front: it is the host that does TLS and checks function keys.

use std::net::{Ipv4Addr, SocketAddr};

use url::Url;

use crate::options::{Options, OptionsError};

/// The variable by which the host says where it expects its handler.
const PORT: &str = "FUNCTIONS_CUSTOMHANDLER_PORT";
/// The variable by which the host says under which name the app can be reached.
const HOST_NAME: &str = "WEBSITE_HOSTNAME";
/// The path that the host puts before the routes of functions, unless `host.json` says otherwise.
const PREFIX: &str = "/api";
/// The Durable Functions contract cannot lie where it does elsewhere: the host keeps `/runtime` for itself.
const DURABLE: &str = "/durabletask";

/// Where to listen, and with which settings, if the Azure Functions host has started this program; `None` if it has
/// not. `variable` reads a variable of the environment.
///
/// The server then listens on loopback, where only the host reaches it, and the Durable Functions contract lies at
/// `/durabletask`. A public URL that is set stays; without one it is `https://$WEBSITE_HOSTNAME/api`.
pub fn custom_handler(
    options: Options,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<(SocketAddr, Options)>, OptionsError> {
    let Some(port) = variable(PORT).filter(|port| !port.is_empty()) else {
        return Ok(None);
    };
    let port: u16 = port.parse().map_err(|_| OptionsError::BadPort(port))?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let public_url = match options.public_url {
        Some(url) => Some(url),
        None => variable(HOST_NAME).filter(|name| !name.is_empty()).map(|name| url_of(&name)).transpose()?,
    };
    Ok(Some((address, Options { public_url, durable_path: DURABLE.to_owned(), ..options })))
}

/// Functions on a developer's machine are reached by `localhost:port`, without TLS.
fn url_of(host: &str) -> Result<Url, OptionsError> {
    let local = host.starts_with("localhost") || host.starts_with("127.0.0.1");
    let text = format!("{}://{host}{PREFIX}", if local { "http" } else { "https" });
    Url::parse(&text).map_err(|_| OptionsError::BadPublicUrl(format!("\"{text}\"")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(pairs: &[(&str, &str)]) -> Result<Option<(SocketAddr, Options)>, OptionsError> {
        let pairs: Vec<(String, String)> = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        custom_handler(Options::default(), &move |name| {
            pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
        })
    }

    #[test]
    fn the_host_says_where_to_listen_and_how_the_app_is_reached() {
        assert!(with(&[]).unwrap().is_none());
        let (address, options) = with(&[(PORT, "7071"), (HOST_NAME, "app.azurewebsites.net")]).unwrap().unwrap();
        assert_eq!(address, "127.0.0.1:7071".parse().unwrap());
        assert_eq!(options.public_url.unwrap().as_str(), "https://app.azurewebsites.net/api");
        assert_eq!(options.durable_path, "/durabletask");
        let (_, options) = with(&[(PORT, "7071"), (HOST_NAME, "localhost:7072")]).unwrap().unwrap();
        assert_eq!(options.public_url.unwrap().as_str(), "http://localhost:7072/api");
        assert_eq!(with(&[(PORT, "seventy")]).unwrap_err(), OptionsError::BadPort("seventy".to_owned()));
    }
}
