"""The subcommands, a module each: ``configure(parser)`` adds its arguments, ``run(args)`` carries it out."""
