//! Groups notice topics and partitions that come into being while they run.

use serde_json::json;

use super::groups::each_owner_reads;
use crate::member::settle;
use crate::scene::Scene;

pub fn new_topic(scene: &Scene<'_>) {
    let mut partitions = scene.topic_called(&format!("{}-one", scene.name), 2);
    scene.topic_called(&format!("other-{}", scene.name), 1);
    let pattern = json!({"topics": null, "pattern": format!("^{}-.*", scene.name)});
    let first = scene.member(&pattern);
    first.owns(&partitions);
    let second = scene.member(&pattern);
    settle(&[&first, &second], &partitions);
    partitions.extend(scene.topic_called(&format!("{}-two", scene.name), 2));
    settle(&[&first, &second], &partitions);
    each_owner_reads(scene, &[&first, &second], &partitions, "found");
    first.close();
    second.close();
}

pub fn new_partitions(scene: &Scene<'_>) {
    let mut partitions = scene.topic(2);
    let member = scene.member(&json!({}));
    member.owns(&partitions);
    scene.stage.add_partitions(&scene.name, 4);
    partitions.extend([(scene.name.clone(), 2), (scene.name.clone(), 3)]);
    member.owns(&partitions);
    each_owner_reads(scene, &[&member], &partitions, "grown");
    member.close();
}
