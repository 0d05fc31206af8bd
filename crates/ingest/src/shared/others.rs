//! Where a run's work is, as the task hub knows it: a step names its run, and the run's input says which work location
//! its workers share. Must never be asked more than once for an execution, nor by a process that works alone.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Mutex;

use seriatim_durable::hub::HubError;
use seriatim_durable::{ActivityContext, Client};

use super::{Place, lock};
use crate::error::{ErrorKind, IngestError, Result};
use crate::files::remove_folder;
use crate::orchestration::{INGEST, RunInput};

/// Places that are remembered, at most: those of ended runs are of no use.
const REMEMBERED: usize = 64;

/// The hub, and what it has said.
#[derive(Debug)]
pub(crate) struct Others {
    client: Client,
    /// By run and execution; `None`: in the state folder.
    places: Mutex<HashMap<(String, String), Option<Place>>>,
}

impl Others {
    pub(crate) fn new(client: Client) -> Self {
        Self { client, places: Mutex::default() }
    }

    /// Where the work of a step's run is; `None`: in the state folder, which its workers share then.
    pub(crate) async fn place(&self, step: &ActivityContext, state: &Path) -> Result<Option<Place>> {
        let execution = step.execution_id().unwrap_or("run").to_owned();
        let key = (step.instance_id().to_owned(), execution.clone());
        if let Some(place) = lock(&self.places).get(&key) {
            return Ok(place.clone());
        }
        let run = step.instance_id();
        let found = self.client.get(run).await.map_err(|e| unknown(run, &e))?;
        let place = match found {
            Some(found) if found.name == INGEST => {
                let RunInput { work, folder, .. } = found.input()?;
                work.map(|work| Place { work, folder, run: run.to_owned(), execution })
            }
            Some(_) => None,
            None => return Err(IngestError::state(format!("the task hub has lost run '{run}'"))),
        };
        self.forget_ended(state).await?;
        let mut places = lock(&self.places);
        if places.len() >= REMEMBERED {
            places.clear();
        }
        places.insert(key, place.clone());
        Ok(place)
    }

    /// Removes what this process, or one before it, keeps of runs that others have brought to their end.
    async fn forget_ended(&self, state: &Path) -> Result<()> {
        let Ok(entries) = std::fs::read_dir(state.join("work")) else { return Ok(()) };
        let names: Vec<String> = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
        for run in names {
            let known = self.client.get(&run).await.map_err(|e| unknown(&run, &e))?;
            if known.is_none_or(|known| known.status.is_ended()) {
                remove_folder(&state.join("work").join(run))?;
            }
        }
        Ok(())
    }
}

fn unknown(run: &str, error: &HubError) -> IngestError {
    IngestError::new(ErrorKind::System, format!("where the work of run '{run}' is cannot be asked: {error}"))
}
