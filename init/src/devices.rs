//! `init devices`: loads the drivers of the devices that are there and of those that appear, watches the power button,
//! and has the crash logs moved. A supervised helper; what it knows it can find again, so it may end and be started at any time.
//!
//! It tells PID 1 two things: READY=1 when the devices that were there have their drivers and dhcpcd's config is made
//! for the cards among them, and SIGPWR when the button is pressed. It names no nodes and changes no permissions: that is devtmpfs's work.

use crate::prepare::system;
use crate::sys::device::{self, Next, Uevents};
use crate::sys::limited::Aside;
use crate::sys::module::{Report, Store};
use crate::sys::process::OURSELVES;
use crate::sys::{notify, poll};
use crate::{kmsg, network};
use anyhow::{Result, bail};
use podium_init::input::{EVENT_SIZE, POWER_BUTTON, is_power_pressed};
use podium_init::modules::{SOFT_WATCHDOG, SOON};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// Messages taken in one turn before the power button is looked at again.
const TURN: usize = 64;
/// Rounds of [`Helper::coldplug`]; a bus behind a bus behind a bus needs three, and what comes later is announced.
const ROUNDS: u32 = 8;
/// Modules whose failure is remembered so that it is said once; more than this are not said at all.
const MOST_FAILURES: usize = 256;
/// Power buttons that are watched: one or two are there.
const MOST_BUTTONS: usize = 8;

/// `init devices`.
///
/// # Errors
/// The kernel's announcements cannot be received; the supervisor starts it again.
pub(crate) fn run(args: &[String]) -> Result<()> {
    if let Some(arg) = args.first() {
        bail!("takes no argument, not {arg:?}");
    }
    kmsg::start();
    // Before the devices are listed, so that none is missed in between.
    let mut uevents = Uevents::listen()?;
    let mut helper = Helper::default();
    helper.coldplug();
    helper.follow_cards();
    helper.follow_settings();
    helper.make_watchdog();
    if let Some(socket) = std::env::var_os("NOTIFY_SOCKET") {
        notify::send(&socket.to_string_lossy(), "READY=1")?;
    }
    helper.load(SOON.iter().map(|(module, _)| *module).collect());
    // Firmware may be slow, or hang: neither keeps us from the rest.
    match Aside::start(OURSELVES, &["crash-logs"]) {
        Ok(aside) => helper.aside = Some(aside),
        Err(error) => log::error!("devices: {error:#}; crash logs stay where they are"),
    }
    loop {
        helper.wait(&uevents)?;
        helper.read_buttons();
        helper.take_events(&mut uevents)?;
    }
}

/// What is known of the devices.
#[derive(Debug, Default)]
struct Helper {
    /// Power buttons by the number of their event device.
    buttons: BTreeMap<u32, OwnedFd>,
    /// Modules, and `` for the tables, of which a failure was said.
    said: BTreeSet<String>,
    /// What moves the crash logs, while it does.
    aside: Option<Aside>,
    /// Settings of the config whose files were not there at the last look.
    unset: Option<BTreeSet<String>>,
}

impl Helper {
    /// Loads the drivers of all devices that are there, and of those that thereby appear; finds power buttons.
    fn coldplug(&mut self) {
        let mut seen = BTreeSet::new();
        for _ in 0..ROUNDS {
            let present = device::all_modaliases();
            let loaded = self.load(present.difference(&seen).map(String::as_str).collect());
            seen = present;
            if loaded == 0 {
                break;
            }
        }
        for number in device::event_devices() {
            self.take_event_device(number);
        }
    }

    /// Loads what answers these requests; gives how many modules were loaded. The tables are read anew each time,
    /// because this process is idle for most of its life.
    fn load(&mut self, requests: BTreeSet<&str>) -> usize {
        if requests.is_empty() {
            return 0;
        }
        let report = match Store::open() {
            Ok(store) => store.load(requests, ""),
            Err(error) => {
                self.say_once("", &format!("{error:#}; no drivers are loaded"));
                Report::default()
            }
        };
        for (module, error) in report.faults() {
            self.say_once(module, &error.to_string());
        }
        report.loaded.len()
    }

    /// A machine without a watchdog in hardware gets the kernel's, which at least sees a PID 1 that hangs.
    fn make_watchdog(&mut self) {
        if !Path::new("/sys/class/watchdog/watchdog0").exists() {
            self.load(BTreeSet::from([SOFT_WATCHDOG]));
        }
    }

    fn say_once(&mut self, about: &str, line: &str) {
        if self.said.len() < MOST_FAILURES && self.said.insert(about.to_owned()) {
            log::warn!("devices: {line}");
        }
    }

    /// Watches an event device if it is a power button; one that is gone already is none.
    fn take_event_device(&mut self, number: u32) {
        if self.buttons.len() >= MOST_BUTTONS
            || !device::event_device_name(number).is_ok_and(|name| name == POWER_BUTTON)
        {
            return;
        }
        match device::open_event_device(number) {
            Ok(button) => {
                self.buttons.insert(number, button);
            }
            Err(error) => self.say_once("power button", &format!("{error}; the power button does nothing")),
        }
    }

    /// Sleeps until something is to be read.
    fn wait(&mut self, uevents: &Uevents) -> Result<()> {
        let mut fds = vec![(uevents.as_fd(), poll::For::Reading)];
        fds.extend(self.buttons.values().map(|button| (button.as_fd(), poll::For::Reading)));
        fds.extend(self.aside.iter().map(|aside| (aside.end(), poll::For::Reading)));
        let has_ended = poll::wait(&fds, None)?.last().copied().unwrap_or(false);
        match self.aside.take_if(|_| has_ended) {
            Some(aside) => aside.reap(),
            None => Ok(()),
        }
    }

    /// Reads each button once; one that is gone is forgotten.
    fn read_buttons(&mut self) {
        let mut buffer = [0; EVENT_SIZE * 64];
        let mut is_pressed = false;
        self.buttons.retain(|_, button| match device::read_events(button, &mut buffer) {
            Ok(events) => {
                is_pressed |= is_power_pressed(events);
                true
            }
            Err(_) => false,
        });
        if is_pressed {
            log::info!("devices: power button pressed");
            if let Err(error) = device::tell_pid1_power() {
                log::error!("devices: {error}");
            }
        }
    }

    /// Takes up to [`TURN`] messages, then acts on all of them at once.
    fn take_events(&mut self, uevents: &mut Uevents) -> Result<()> {
        let mut modaliases = BTreeSet::new();
        let mut is_lost = false;
        let mut has_card = false;
        for _ in 0..TURN {
            match uevents.next()? {
                Next::Event(event) => {
                    if let Some(number) = event.new_event_device() {
                        self.take_event_device(number);
                    }
                    has_card |= event.is_new_card();
                    modaliases.extend(event.wants_driver().map(str::to_owned));
                }
                Next::Other => {}
                Next::Lost => is_lost = true,
                Next::Nothing => break,
            }
        }
        if is_lost {
            log::warn!(
                "devices: the kernel announced more than could be taken; looking at all devices again"
            );
            self.coldplug();
        } else {
            self.load(modaliases.iter().map(String::as_str).collect());
        }
        if has_card || is_lost {
            self.follow_cards();
        }
        if has_card || is_lost || !modaliases.is_empty() {
            self.follow_settings();
        }
        Ok(())
    }

    /// Settings of a device are there once its driver is.
    fn follow_settings(&mut self) {
        let config = network::config_in_use();
        self.unset = Some(system::late_settings(&config, self.unset.as_ref()));
    }

    /// A card may be what the config's selectors wait for.
    fn follow_cards(&mut self) {
        if let Err(error) = network::follow() {
            self.say_once("network", &format!("{error:#}; dhcpcd goes on with the config it has"));
        }
    }
}
