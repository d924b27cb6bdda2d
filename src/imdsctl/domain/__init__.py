"""The pure heart: options, precedence, exposure, intent, plan, journal and diagnostics. Values in, values out."""
