//! Starts the clusters that the tests of all languages run against, and runs a command that finds
//! them by `ANNULET_SCENE`: `annulet-scene COMMAND [ARGUMENT...]`. It ends as the command does.
//! `ANNULET_PROFILE` names the profile of somebody who may do everything in the largest of them:
//! the examples of the documentation run there.

use annulet::PROFILE_VARIABLE;
use annulet_tests::conformance::{FOLDERS_VARIABLE, SCENE_VARIABLE, Scene};
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    let Some(program) = words.next() else {
        eprintln!("usage: annulet-scene COMMAND [ARGUMENT...]");
        return ExitCode::from(2);
    };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("annulet-scene: no threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    let scene = runtime.block_on(Scene::start());
    let Ok(folders) = std::env::join_paths(scene.folders()) else {
        eprintln!("annulet-scene: a temporary folder with a colon in its name");
        return ExitCode::FAILURE;
    };
    let status = Command::new(&program)
        .args(words)
        .env(SCENE_VARIABLE, scene.file())
        .env(FOLDERS_VARIABLE, folders)
        .env(PROFILE_VARIABLE, scene.profile("main"))
        .status();
    match status {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(status) => {
            eprintln!("annulet-scene: {} {status}", program.display());
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("annulet-scene: cannot run {}: {error}", program.display());
            ExitCode::FAILURE
        }
    }
}
