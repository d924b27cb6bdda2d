"""The bodies of refusals, as EC2's server writes them."""

from __future__ import annotations


def error_page(status: int, reason: str) -> bytes:
    """The page of a 400, 401 or 404; the form was observed on instances (403, 405 and 417 have no body)."""
    return (
        '<?xml version="1.0" encoding="iso-8859-1"?>\n'
        '<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Transitional//EN"\n'
        '\t"http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd">\n'
        '<html xmlns="http://www.w3.org/1999/xhtml" xml:lang="en" lang="en">\n'
        " <head>\n"
        f"  <title>{status} - {reason}</title>\n"
        " </head>\n"
        " <body>\n"
        f"  <h1>{status} - {reason}</h1>\n"
        " </body>\n"
        "</html>\n"
    ).encode()
