"""Makes sources like those of TPC-DI with benchbox: what a brokerage's systems hand over. It is run by the Python that
benchbox is installed in, `python tpcdi.py FOLDER SCALE`, and knows nothing of what becomes of them.

    *.tbl                 a warehouse's dimensions and facts up to now, with the surrogate keys of others
    schema.json           their columns
    source/*/BATCH/*      what comes later, in files as their systems write them
    companies-BATCH.json  the companies of a batch, which is XML otherwise
"""

import json
import logging
import sys
from pathlib import Path
from xml.etree import ElementTree

from benchbox import TPCDI

#: The batches that come after the history, in this order.
BATCHES = ["incremental", "scd"]


def main(folder: Path, scale: float) -> None:
    logging.disable(logging.CRITICAL)
    history = TPCDI(scale_factor=0.01 * scale, output_dir=folder)
    history.generate_data()
    # Batches are small: at scale 1, a hundred customers beside the five hundred of a history at 0.01.
    TPCDI(scale_factor=scale, output_dir=folder).generate_source_data(batch_types=BATCHES)

    tables = history.get_schema().items()
    schema = {table: [(column["name"], column["type"]) for column in shape["columns"]] for table, shape in tables}
    (folder / "schema.json").write_text(json.dumps(schema))
    for batch in BATCHES:
        companies = ElementTree.parse(folder / "source" / "xml" / batch / f"companies_{batch}.xml").getroot()
        records = [{field.tag: field.text for field in company} for company in companies]
        (folder / f"companies-{batch}.json").write_text(json.dumps(records))


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
