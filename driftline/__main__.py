"""The `driftline` command."""

import sys


def main() -> None:
    """Run the command line, or say what to install where only the logger is."""
    try:
        import typer  # noqa: F401
    except ImportError:
        sys.exit(
            "The driftline command needs the warehouse tools: pip install 'driftline[warehouse]' "
            "(or 'driftline[sandbox]' to try it without ClickHouse and Kafka)."
        )
    from driftline.command_line import app

    app(prog_name="driftline")


if __name__ == "__main__":
    main()
