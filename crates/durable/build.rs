//! Generates the protocol's messages from `proto/durable_task.proto`, without a system `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto/durable_task.proto");
    let descriptors = protox::compile(["proto/durable_task.proto"], ["proto"])?;
    prost_build::Config::new().default_package_filename("durable_task").compile_fds(descriptors)?;
    Ok(())
}
