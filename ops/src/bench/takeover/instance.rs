//! An instance of `features` as a process: a thread cannot be killed.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

/// How long an instance may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks at a process: it tells nobody that it has ended.
const LOOK: Duration = Duration::from_millis(5);

/// A process; killed when dropped.
pub(super) struct Instance {
    name: &'static str,
    child: Child,
    admin: SocketAddr,
}

impl Instance {
    /// Starts the program with these arguments as an instance of this name.
    ///
    /// # Errors
    /// A program that does not run.
    pub(super) fn start(program: &Path, arguments: &[String], name: &'static str) -> Result<Self> {
        // Free a moment ago; whoever takes it in between makes the instance end with a message.
        let admin = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?;
        let child = Command::new(program)
            .arg("features")
            .args(arguments)
            .args(["--set", &format!("service.instance={name}")])
            .args(["--set", &format!("admin.listen={admin}")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("{} does not run", program.display()))?;
        Ok(Self { name, child, admin })
    }

    /// Fails where it has ended.
    ///
    /// # Errors
    /// How it ended.
    pub(super) fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("instance {} has ended by itself: {status}", self.name),
        }
    }

    /// The value of a metric, by its name and labels as they are shown; `None` while it shows none.
    pub(super) fn metric(&self, name: &str) -> Option<f64> {
        let shown = self.request("GET", "/metrics").ok()?;
        let line = shown.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().parse().ok()
    }

    /// Asks it to leave for good.
    ///
    /// # Errors
    /// One that does not listen.
    pub(super) fn drain(&self) -> Result<()> {
        let answer = self.request("POST", "/drain")?;
        ensure!(answer.starts_with("HTTP/1.1 202"), "instance {} does not drain: {answer}", self.name);
        Ok(())
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// One that does not end.
    #[expect(clippy::disallowed_methods, reason = "a benchmark goes by the wall clock")]
    pub(super) fn wait(&mut self) -> Result<()> {
        let began = Instant::now();
        while self.child.try_wait()?.is_none() {
            ensure!(began.elapsed() < PATIENCE * 3, "instance {} does not end", self.name);
            // A process that ends tells nobody but its parent, who would have to wait without a limit.
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    fn request(&self, method: &str, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect_timeout(&self.admin, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: salience\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // It may have ended.
        let _gone = self.kill();
    }
}
