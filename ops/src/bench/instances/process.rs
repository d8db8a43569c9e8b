//! An instance of a service as a process: a thread cannot be killed.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::bench::watch::status_mib;

/// How long an instance may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks at a process: it tells nobody that it has ended.
const LOOK: Duration = Duration::from_millis(5);

/// A process; killed when dropped.
pub(in crate::bench) struct Instance {
    name: &'static str,
    child: Child,
    admin: SocketAddr,
}

impl Instance {
    /// Starts the program with these arguments as an instance of this name of a service.
    ///
    /// # Errors
    /// A program that does not run.
    pub(in crate::bench) fn start(
        program: &Path,
        arguments: &[String],
        service: &str,
        name: &'static str,
    ) -> Result<Self> {
        // Free a moment ago; whoever takes it in between makes the instance end with a message.
        let admin = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?;
        let child = Command::new(program)
            .arg(service)
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
    pub(in crate::bench) fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("instance {} has ended by itself: {status}", self.name),
        }
    }

    /// The value of a metric, by its name and labels as they are shown; `None` while it shows none.
    pub(in crate::bench) fn metric(&self, name: &str) -> Option<f64> {
        let shown = self.request("GET", "/metrics").ok()?;
        let line = shown.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().parse().ok()
    }

    /// The memory that it has, MiB; 0 where the system does not say.
    pub(in crate::bench) fn resident_mib(&self) -> f64 {
        status_mib(&self.child.id().to_string(), "VmRSS:")
    }

    /// The most that it had.
    pub(in crate::bench) fn peak_mib(&self) -> f64 {
        status_mib(&self.child.id().to_string(), "VmHWM:")
    }

    /// Asks it to leave for good.
    ///
    /// # Errors
    /// One that does not listen.
    pub(in crate::bench) fn drain(&self) -> Result<()> {
        let answer = self.request("POST", "/drain")?;
        ensure!(answer.starts_with("HTTP/1.1 202"), "instance {} does not drain: {answer}", self.name);
        Ok(())
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// The system's.
    pub(in crate::bench) fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// One that does not end.
    #[expect(clippy::disallowed_methods, reason = "a benchmark goes by the wall clock")]
    pub(in crate::bench) fn wait(&mut self) -> Result<()> {
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
