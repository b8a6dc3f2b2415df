//! The page `parking.md`: what it costs an executor to spin before it sleeps, and what a request
//! gains by that, at several rates.

use std::thread;
use std::time::{Duration, Instant};

use crate::executor::{Owner, Server, Standing, ask_paced};
use crate::measure::{Table, percentile_us, pin};
use crate::tcp::{HERE, THERE};
use crate::{Options, Result};

/// What one measurement lasts.
const LASTING: Duration = Duration::from_millis(300);

pub fn measure(options: &Options) -> Result<()> {
    for rate in [0, 100, 1000, 5000] {
        let title = match rate {
            0 => "nothing to do, spinning for".to_owned(),
            _ => format!("{rate} requests a second, spinning for"),
        };
        let columns = ["% of a core", "CPU µs a request", "p50 µs", "p99 µs"];
        let mut table = Table::new(&title, if rate == 0 { &columns[..1] } else { &columns });
        for spin_us in [0, 20, 100, 1000, 10_000] {
            table.row(format!("{spin_us} µs"), move || served(rate, spin_us));
        }
        table.print(options);
    }
    Ok(())
}

fn served(rate: u32, spin_us: u64) -> Result<Vec<f64>> {
    let standing = Standing {
        cpu: Some(HERE),
        other_cpu: None,
        spin: Duration::from_micros(spin_us),
        owner: Owner::Same,
    };
    let server = Server::start(standing, 1)?;
    let address = server.address;
    let client = thread::spawn(move || -> std::result::Result<_, String> {
        let run = || -> Result<(Vec<u64>, f64)> {
            pin(THERE)?;
            let began = Instant::now();
            let latencies_ns = match rate {
                0 => {
                    let idle = std::net::TcpStream::connect(address)?;
                    thread::sleep(LASTING);
                    drop(idle);
                    Vec::new()
                }
                _ => {
                    let count = (LASTING.as_secs_f64() * f64::from(rate)) as usize;
                    ask_paced(address, Duration::from_secs(1) / rate, count)?
                }
            };
            Ok((latencies_ns, began.elapsed().as_secs_f64()))
        };
        run().map_err(|error| error.to_string())
    });
    let (mut latencies_ns, wall) = client.join().map_err(|_| "the client panicked")??;
    let seconds = server.join()?;
    let share = seconds / wall * 100.0;
    if rate == 0 {
        return Ok(vec![share]);
    }
    Ok(vec![
        share,
        seconds * 1e6 / latencies_ns.len() as f64,
        percentile_us(&mut latencies_ns, 0.5),
        percentile_us(&mut latencies_ns, 0.99),
    ])
}
