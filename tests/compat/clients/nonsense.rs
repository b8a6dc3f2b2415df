//! What is no command ends a driver, whatever it does: a judge that is misunderstood is told so.

use std::sync::Arc;

use libtest_mimic::Trial;
use serde_json::json;

use crate::client::{CLIENTS, Client};
use crate::scene::{Scene, Stage};

/// One trial for each client.
pub fn trials(stage: &Arc<Stage>) -> Vec<Trial> {
    let trial = |client| {
        let stage = Arc::clone(stage);
        move || {
            if let Some(program) = Client::program(client) {
                refuses(&Scene::new(&stage, client, program, "nonsense"));
            }
            Ok(())
        }
    };
    CLIENTS
        .iter()
        .map(|client| Trial::test(format!("{}::nonsense", client.name), trial(client)))
        .collect()
}

fn refuses(scene: &Scene<'_>) {
    scene.topic(1);
    let member = scene.member(&json!({}));
    let producer = json!({
        "topic": scene.name, "codec": "none", "partitioner": "default", "idempotent": false,
    });
    let drivers = [
        member.0,
        scene.driver("produce", &producer),
        scene.driver("admin", &json!({})),
    ];
    for driver in drivers {
        driver.send_line("nonsense");
        let message = driver.fails(None);
        assert!(message.contains("not a command"), "{message}");
    }
}
