//! A real, headless Chromium, controlled through chromedriver (W3C `WebDriver`).

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use serde_json::{Value, json};

use super::{PATIENCE, https, machine};

/// Keys that are not characters.
pub(crate) const TAB: &str = "\u{E004}";
pub(crate) const ENTER: &str = "\u{E007}";
pub(crate) const DOWN: &str = "\u{E015}";

/// A browser with a profile of its own.
pub(crate) struct Browser {
    driver: Child,
    port: u16,
    session: String,
    client: reqwest::Client,
    profile: tempfile::TempDir,
}

impl Browser {
    /// Starts a new browser, or returns `None` after reporting that `test` was left out.
    pub(crate) async fn start(test: &str) -> Option<Self> {
        let program =
            machine::needs(test, machine::Part::Debian("chromium-driver"), machine::program("chromedriver"))?;
        let chromium = machine::needs(test, machine::Part::Debian("chromium"), machine::program("chromium"))?;
        let mut driver = Command::new(program)
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = lines
            .find_map(|line| {
                line.unwrap().split("successfully on port ").nth(1)?.trim_end_matches('.').parse().ok()
            })
            .expect("chromedriver says where it listens");
        // chromedriver would end if nothing read its output.
        std::thread::spawn(move || lines.for_each(drop));
        let profile = tempfile::tempdir().unwrap();
        let client = https::builder().build().unwrap();
        let mut browser = Self { driver, port, session: String::new(), client, profile };
        let folder = format!("--user-data-dir={}", browser.profile.path().display());
        let args = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--no-proxy-server",
            "--window-size=1200,1000",
            &folder,
        ];
        let capabilities = json!({"capabilities": {"alwaysMatch": {
            "acceptInsecureCerts": true,
            "goog:chromeOptions": {"binary": chromium, "args": args},
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let session = browser.send("session", &capabilities).await;
        browser.session = session["sessionId"].as_str().unwrap_or_default().into();
        Some(browser)
    }

    async fn send(&self, path: &str, body: &Value) -> Value {
        let url = format!("http://127.0.0.1:{}/{path}", self.port);
        let answer = self.client.post(&url).json(body).send().await.unwrap();
        let (status, mut told) = (answer.status(), answer.json::<Value>().await.unwrap());
        assert!(status.is_success(), "{path}: {told:#}");
        told["value"].take()
    }

    async fn command(&self, path: &str, body: &Value) -> Value {
        self.send(&format!("session/{}/{path}", self.session), body).await
    }

    pub(crate) async fn open(&self, url: &str) {
        self.command("url", &json!({"url": url})).await;
    }

    /// The result of a script on the page.
    pub(crate) async fn run(&self, script: &str) -> Value {
        self.command("execute/sync", &json!({"script": script, "args": []})).await
    }

    /// The value of an expression on the page.
    pub(crate) async fn value(&self, expression: &str) -> Value {
        self.run(&format!("return {expression}")).await
    }

    /// The visible text of an element on the page.
    pub(crate) async fn text(&self, selector: &str) -> String {
        let text = self.value(&format!("document.querySelector({selector:?})?.innerText")).await;
        text.as_str().unwrap_or_default().to_owned()
    }

    /// Waits until an expression on the page is true.
    pub(crate) async fn until(&self, expression: &str) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while self.value(&format!("Boolean({expression})")).await != true {
            let late = tokio::time::Instant::now() > deadline;
            assert!(!late, "never true: {expression}\n{}", self.text("body").await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Presses these keys, one after the other, wherever the focus is.
    pub(crate) async fn press(&self, keys: &str) {
        let keys = keys
            .chars()
            .flat_map(|key| ["keyDown", "keyUp"].map(|type_| json!({"type": type_, "value": key})));
        let keyboard = json!({"type": "key", "id": "keyboard", "actions": keys.collect::<Vec<_>>()});
        self.command("actions", &json!({"actions": [keyboard]})).await;
    }

    /// Presses Tab until the focus is on the element with this id.
    pub(crate) async fn tab_to(&self, id: &str) {
        for _ in 0..40 {
            if self.value("document.activeElement.id").await == id {
                return;
            }
            self.press(TAB).await;
        }
        panic!("Tab does not come to #{id}\n{}", self.text("body").await);
    }

    /// Runs a command of the Chrome `DevTools` protocol.
    pub(crate) async fn devtools(&self, command: &str, params: &Value) -> Value {
        self.command("goog/cdp/execute", &json!({"cmd": command, "params": params})).await
    }

    /// The whole page as a picture.
    pub(crate) async fn picture(&self) -> Vec<u8> {
        let params = json!({"format": "png", "captureBeyondViewport": true});
        let picture = self.devtools("Page.captureScreenshot", &params).await;
        base64::engine::general_purpose::STANDARD.decode(picture["data"].as_str().unwrap()).unwrap()
    }

    /// The messages of the console since the last call, except those about responses whose status is not 2xx.
    pub(crate) async fn console(&self) -> Vec<String> {
        let entries = self.command("se/log", &json!({"type": "browser"})).await;
        let entries = entries.as_array().unwrap().iter().filter(|entry| entry["source"] != "network");
        entries.map(|entry| entry["message"].as_str().unwrap().to_owned()).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Ends the browser; without a response there is none.
        if let Ok(mut stream) = std::net::TcpStream::connect(("127.0.0.1", self.port)) {
            let request = format!(
                "DELETE /session/{} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: close\r\n\r\n",
                self.session, self.port
            );
            let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
            let _ = stream.write_all(request.as_bytes());
            let _ = std::io::Read::read(&mut stream, &mut [0; 256]);
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
