"""A local worker of a sweep: `python -m farstep.sweeps.worker`, the job on standard input."""

from farstep.sweeps.engines import serve_one

if __name__ == "__main__":
    serve_one()
