"""Prints how many bytes some columns have in some Parquet files: COLUMNS, with commas, and FILES."""

import sys

from pyarrow import parquet

columns = sys.argv[1].split(",")
total = 0
for path in sys.argv[2:]:
    footer = parquet.read_metadata(path)
    for group in range(footer.num_row_groups):
        chunks = (footer.row_group(group).column(place) for place in range(footer.num_columns))
        total += sum(chunk.total_compressed_size for chunk in chunks if chunk.path_in_schema in columns)
print(total)
