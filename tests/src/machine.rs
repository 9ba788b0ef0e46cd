//! A machine for tests: limits, configs, and one way to start the image under test.

use crate::artifacts::Image;
use crate::disk::Disk;
use crate::hand::{self, Hand};
use crate::http;
use crate::markers::READY;
use crate::operator;
use crate::qemu::{Clock, ExtraDisk, Machine, Options};
use anyhow::{Result, anyhow};
use std::time::Duration;

/// For a marker of the boot, which takes some twenty seconds on an idle host without KVM; a busy one was seen to need
/// ten times that. By the host's clock: what has to come within some time of the node's is read by
/// [`Hand::reads`].
pub const BOOT_LIMIT: Duration = Duration::from_secs(600);
/// Pods have their grace, services their limits; a machine that takes longer hangs.
pub const POWER_OFF_LIMIT: Duration = Duration::from_secs(180);
/// Where the pod `hello` answers on the node.
pub const HELLO_PORT: u16 = 8080;

/// The demo pod, behind a port of the node.
pub const HELLO: &str = "
    - apiVersion: v1
      kind: Pod
      metadata: {name: hello}
      spec:
        containers:
          - name: hello
            image: podium.local/hello:1
            imagePullPolicy: Never
            ports: [{containerPort: 8080, hostPort: 8080}]";

/// The tests' hand inside the node: see `src/hand.rs`.
pub const HAND: &str = "
    - apiVersion: v1
      kind: Pod
      metadata: {name: hand}
      spec:
        hostPID: true
        hostNetwork: true
        containers:
          - name: hand
            image: podium.local/guest:1
            imagePullPolicy: Never
            args: [serve, '9000']
            securityContext: {privileged: true, runAsUser: 0, runAsGroup: 0}";

/// A config with these pods.
#[must_use]
pub fn config(pods: &[&str]) -> String {
    format!("version: v1alpha1\nmachine:\n  pods:{}\n", pods.concat())
}

/// Gives the test a new disk of the image under test; when it fails, what the services wrote there is told.
///
/// # Errors
/// The test's own, or no disk could be made.
pub fn on_a_new_disk(test: impl FnOnce(&Disk) -> Result<()>) -> Result<()> {
    let disk = Disk::temporary(&Image::under_test()?.disk)?;
    reported(&disk, test)
}

/// The test's result; an error with what the services wrote on the disk before it: of a long report a CI may keep the
/// end alone.
pub(crate) fn reported(disk: &Disk, test: impl FnOnce(&Disk) -> Result<()>) -> Result<()> {
    test(disk).map_err(|error| anyhow!("service logs on the disk:\n{}\n{error:#}", disk.logs(25)))
}

/// Boots `disk` with further kernel words and disks; the ports of both pods and of the API are forwarded.
///
/// # Errors
/// QEMU cannot be started.
pub fn boot(disk: &Disk, words: &[String], extra_disks: &[ExtraDisk]) -> Result<Machine> {
    Machine::start(&options(disk, words, extra_disks)?)
}

/// What [`boot`] starts, for a test that needs a little more.
///
/// # Errors
/// There is no image under test.
pub fn options(disk: &Disk, words: &[String], extra_disks: &[ExtraDisk]) -> Result<Options> {
    let image = Image::under_test()?;
    let mut options = Options::new(&image.kernel, &image.initramfs);
    options.words = image.words;
    options.words.extend_from_slice(words);
    options.disk = Some(disk.path().to_owned());
    options.extra_disks = extra_disks.to_vec();
    options.forwards = vec![(0, HELLO_PORT), (0, hand::PORT), (0, operator::PORT)];
    options.reboots = true;
    options.clock = Clock::Paced;
    Ok(options)
}

/// Waits until all pods run, and gives the hand inside.
///
/// # Errors
/// Not within [`BOOT_LIMIT`].
pub fn hand_of(machine: &Machine) -> Result<Hand> {
    machine.wait(READY, BOOT_LIMIT)?;
    Hand::at(machine.port(hand::PORT)?, BOOT_LIMIT)
}

/// What the pod `hello` answers to a client on the host.
///
/// # Errors
/// It does not answer within [`BOOT_LIMIT`].
pub fn hello(machine: &Machine) -> Result<String> {
    http::get_within(machine.port(HELLO_PORT)?, "/", BOOT_LIMIT)
}

/// `disk` as a further disk of a machine.
#[must_use]
pub fn extra(disk: &Disk) -> ExtraDisk {
    ExtraDisk { path: disk.path().to_owned(), unreadable: false }
}
