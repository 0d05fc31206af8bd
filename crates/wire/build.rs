//! Generates the protocol's gRPC service. Its messages are those of `seriatim-durable`, so that what a worker is handed
//! in its own process and what comes through a socket are the same types.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = "../durable/proto";
    let file = format!("{folder}/durable_task.proto");
    println!("cargo::rerun-if-changed={file}");
    let descriptors = protox::compile([&file], [folder])?;
    // The protocol's file has no package of its own, so that its messages cannot be named by a common prefix.
    let mut config = prost_build::Config::new();
    config.default_package_filename("durable_task");
    for file in descriptors.file.iter().filter(|file| file.package.is_none()) {
        let messages = file.message_type.iter().map(prost_types::DescriptorProto::name);
        for name in messages.chain(file.enum_type.iter().map(prost_types::EnumDescriptorProto::name)) {
            config.extern_path(format!(".{name}"), format!("::seriatim_durable::proto::{name}"));
        }
    }
    tonic_prost_build::configure().compile_fds_with_config(descriptors, config)?;
    Ok(())
}
