"""Reports: a scan's results for a browser, a spreadsheet, a code scanner, a security lake, a build server."""
