"""What people look at: the timeline, the ledger and the page that holds both."""
