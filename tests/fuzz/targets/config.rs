//! What an operator writes: `server.properties` is taken or refused with a reason, and
//! `meta.properties`, which is never touched where it is refused.

use std::fs;

use millrace::base::ids::NodeId;
use millrace::config::sources::Given;
use millrace::config::{BrokerConfig, Layers, TopicConfig};
use millrace::process::DataDirectories;

use super::scratch;

/// A `server.properties` file.
pub fn server_properties(data: &[u8]) {
    let home = scratch::directory();
    let file = home.path().join("server.properties");
    fs::write(&file, data).expect("a directory that takes files");
    let given = match Given::gather(Some(&file), [], []) {
        Ok(given) => given,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let _told = (
        given.unknown(),
        given.unknown_variables(),
        given.without_effect(),
    );
    let _refused = given.explain_unknown_of_ours();
    match BrokerConfig::new(Layers::of_start(given.values.clone())) {
        Ok(config) => {
            let described = config.describe();
            assert!(!described.is_empty());
            config.describe_cluster();
            config.describe_topic(&given.values);
        }
        Err(error) => assert!(!given.explain(&error).is_empty()),
    }
    for (key, value) in &given.values {
        let _checked = TopicConfig::check_override(key, value);
    }
    let _topic = TopicConfig::new(&Layers::default(), &given.values);
}

/// The `meta.properties` file of a data directory.
pub fn meta_properties(data: &[u8]) {
    let home = scratch::directory();
    let file = home.path().join("meta.properties");
    fs::write(&file, data).expect("a directory that takes files");
    let node = NodeId(1);
    let log_dirs = [home.path().to_owned()];
    match DataDirectories::open(&log_dirs, None, node) {
        Ok(opened) => {
            let meta = opened.metadata.meta.clone();
            drop(opened);
            let again = DataDirectories::open(&log_dirs, None, node);
            let again = again.expect("it was opened before").metadata.meta;
            assert_eq!(again.cluster_id, meta.cluster_id);
            assert_eq!(again.directory_id, meta.directory_id);
            assert_eq!(again.other_directory_ids, meta.other_directory_ids);
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            let kept = fs::read(&file).expect("the file is there");
            assert_eq!(kept, data, "what is refused is not touched: {error}");
        }
    }
}
